//! The kit's difficult servers, each before every host that speaks as they do.
use futures_util::future::join_all;
use llm_core::provider::hosts::HOSTS;
use llm_core::provider::http::Host;
use llm_core::testkit::scenarios::SCENARIOS;
use llm_core::{Config, Image, Kind, Llm, Operation};

/// A program's own settings, but that it waits milliseconds where it would wait seconds.
fn llm(host: &Host, url: &str) -> Llm {
    let text = format!(
        "retry = {{ wait_ms = 200 }}\n[models.m]\nprovider = '{}'\nbase_url = '{url}'\napi_key = 'k'\n\
         timeout = {{ first_s = 0.3, idle_s = 0.3 }}",
        host.name
    );
    Llm::new(&Config::from_toml(&text).unwrap()).unwrap()
}

/// Those that are asked for a conversation as OpenAI is.
fn hosts() -> Vec<&'static Host> {
    let chats = |host: &&Host| host.operations().contains(Operation::Chat);
    let speaks = |host: &&Host| host.speaks(Operation::Chat)[0].name() == "openai";
    HOSTS.iter().filter(chats).filter(speaks).collect()
}

#[test]
fn there_are_all_those_that_the_kit_promises() {
    let names: std::collections::BTreeSet<_> = SCENARIOS.iter().map(|s| s.name).collect();
    assert_eq!((SCENARIOS.len(), names.len()), (19, 19));
}

#[tokio::test]
async fn of_every_difficult_server_a_program_sees_what_it_should_whatever_host_it_is() {
    assert!(hosts().len() > 10);
    for scenario in SCENARIOS {
        // All hosts at once: most of the time is waiting.
        let seen = hosts().into_iter().map(|host| async move {
            let seen = scenario.check(|url: &str| llm(host, url)).await;
            seen.unwrap_or_else(|why| panic!("{}: {why}", host.name));
        });
        join_all(seen).await;
    }
}

/// A model whose host is away, and a fake that is declared to step in for it.
async fn away(fallback: &str) -> Llm {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let text = format!(
        "default_model = 'big'\nretry = {{ wait_ms = 1 }}\n[models.big]\nprovider = 'vllm'\nbase_url = 'http://{nobody}'\n\
         fallback = [{fallback}]\n[models.small]\nprovider = 'fake'\nsays = 'a picture, they say'"
    );
    Llm::new(&Config::from_toml(&text).unwrap()).unwrap()
}

#[tokio::test]
async fn a_house_whose_host_is_away_degrades_as_declared() {
    let declared = away("'small'").await;
    for _ in 0..3 {
        let reply = declared.chat("?").await.unwrap();
        assert_eq!(
            (reply.text.as_str(), &reply.warnings[..]),
            ("a picture, they say", &["small answered instead of big".to_owned()][..])
        );
        assert_eq!(declared.embed(["one", "two"]).await.unwrap().vectors.len(), 2);
        let seen = declared.caption(Image::url("data:image/png;base64,AA==")).await.unwrap();
        assert_eq!(seen, "a picture, they say");
    }
    let alone = away("").await;
    for error in [alone.chat("?").await.err(), alone.embed("?").await.err()] {
        assert_eq!(error.unwrap().kind(), Kind::Unavailable);
    }
}
