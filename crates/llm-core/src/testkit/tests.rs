//! The kit's own servers, with a host of ours in front of them.
use std::sync::Arc;
use std::time::Duration;

use toml::Table;

use futures_util::StreamExt;

use super::{Mock, SCENARIOS, Served, Subject, events_until_close, scenarios};
use crate::call::*;
use crate::error::{Error, Kind, Result};
use crate::provider::fake::{self, Fake};
use crate::provider::hosts;
use crate::{Config, Llm};

fn host(url: &str) -> Arc<dyn Provider> {
    (hosts::VLLM.build)(&Table::from_iter([("base_url".to_owned(), url.into())])).unwrap()
}

#[tokio::test]
async fn a_host_conforms_in_front_of_a_provider_that_does() {
    let config = fake::Config { says: "It is Paris, I think.".into(), each_ms: 20, ..fake::Config::default() };
    let fake = Arc::new(Fake::new(config));
    let server = Served::start(fake.clone()).await;
    let host = host(&server.url());
    let subject = Subject::new(&*host).model("m").says("It is Paris, I think.").asked_for_long("?");
    subject.running(move || fake.running()).conforms().await.unwrap();
}

/// Each has words of its own for something: TEI for ranks, llama-server for tokens, Ollama for nearly all.
#[tokio::test]
async fn hosts_with_shapes_of_their_own_conform_in_front_of_servers_that_speak_them() {
    for name in ["tei", "llama-server", "ollama"] {
        let config = fake::Config { says: "It is Paris, I think.".into(), each_ms: 20, ..fake::Config::default() };
        let (row, fake) = (hosts::find(name).unwrap(), Arc::new(Fake::new(config)));
        let server = Served::in_place_of(row, fake.clone()).await;
        let kind = crate::provider::PROVIDERS.iter().find(|kind| kind.name == name).unwrap();
        let host = (kind.build)(&Table::from_iter([("base_url".to_owned(), server.url().into())])).unwrap();
        let mut subject = Subject::new(&*host).model("m").running(move || fake.running());
        if host.serves().contains(Operation::Chat) {
            subject = subject.says("It is Paris, I think.").asked_for_long("?");
        }
        subject.conforms().await.unwrap_or_else(|complaints| panic!("{name}: {complaints}"));
    }
}

#[tokio::test]
async fn a_host_sees_of_every_difficult_server_what_the_kit_wants_seen() {
    let llm = |url: &str| {
        let text = format!(
            "retry = {{ wait_ms = 200 }}\n[models.m]\nprovider = 'vllm'\nbase_url = '{url}'\ntimeout = {{ first_s = 0.3, idle_s = 0.3 }}"
        );
        Llm::new(&Config::from_toml(&text).unwrap()).unwrap()
    };
    let checks = SCENARIOS.iter().map(|scenario| scenario.check(llm));
    for (scenario, seen) in SCENARIOS.iter().zip(futures_util::future::join_all(checks).await) {
        seen.unwrap_or_else(|why| panic!("{}: {why}", scenario.name));
    }
}

#[tokio::test]
async fn a_stream_of_two_answers_that_ends_after_one_has_broken_off() {
    let chunk = |index, finish: &str| {
        format!(
            "data: {{\"choices\":[{{\"index\":{index},\"delta\":{{\"content\":\"x\"}},\"finish_reason\":{finish}}}]}}\n\n"
        )
    };
    for (events, is_whole) in [
        (vec![chunk(0, "null"), chunk(1, "null"), chunk(1, "\"stop\"")], false),
        (vec![chunk(0, "\"stop\""), chunk(1, "\"length\"")], true),
    ] {
        let server = Mock::answering([events_until_close(), &events.concat()].concat()).await;
        let question = ChatRequest { n: Some(2), ..ChatRequest::new("?").model("m") };
        let reply = host(&server.url()).call(&Call::new(question, Delivery::Stream)).await.unwrap();
        let last = reply.events().collect::<Vec<_>>().await.pop().unwrap();
        assert_eq!(last.is_ok(), is_whole, "{last:?}");
    }
}

/// Fails as it is told to.
struct Fails(Error);

impl Provider for Fails {
    fn call<'a>(&'a self, _: &'a Call) -> BoxFuture<'a, Result<Reply>> {
        Box::pin(std::future::ready(Err(self.0.clone())))
    }
}

#[tokio::test]
async fn an_error_means_the_same_on_the_other_side_of_a_wire() {
    let same = [
        Kind::Invalid,
        Kind::ContextLength,
        Kind::Unauthorized,
        Kind::NotFound,
        Kind::Unsupported,
        Kind::RateLimited,
        Kind::Overloaded,
        Kind::Timeout,
        Kind::Upstream,
    ];
    // A bug over there is nobody's bug here.
    let all = same.map(|kind| (kind, kind)).into_iter().chain([(Kind::Internal, Kind::Upstream)]);
    for (there, here) in all {
        let error = Error::new(there, "no such luck").retry_after(Duration::from_secs(2));
        let server = Served::start(Arc::new(Fails(error))).await;
        for delivery in [Delivery::Whole, Delivery::Stream] {
            let call = Call::new(ChatRequest::new("?").model("m"), delivery);
            let error = host(&server.url()).call(&call).await.unwrap_err();
            assert_eq!((error.kind(), error.message()), (here, "no such luck"));
            if there == Kind::RateLimited {
                assert_eq!(error.get_retry_after(), Some(Duration::from_secs(2)));
            }
        }
    }
}

#[tokio::test]
async fn no_scenario_hangs_and_none_looks_like_a_bug_of_ours() {
    for scenario in SCENARIOS {
        let server = scenario.serve().await;
        let settings = "timeout = { first_s = 0.5, idle_s = 0.5 }\nretry = { max_retries = 0 }\nmodel = 'm'";
        let text = format!("[models.m]\nprovider = 'vllm'\nbase_url = '{}'\n{settings}", server.url());
        let llm = Llm::new(&Config::from_toml(&text).unwrap()).unwrap();
        let answers = async { [llm.chat("?").await.map(drop), streamed(&llm).await] };
        let answers = tokio::time::timeout(Duration::from_secs(30), answers).await;
        for answer in answers.unwrap_or_else(|_| panic!("{scenario:?}: it hangs")) {
            assert!(!answer.as_ref().is_err_and(|e| e.kind() == Kind::Internal), "{scenario:?}: {answer:?}");
        }
    }
}

async fn streamed(llm: &Llm) -> Result<()> {
    let mut answer = llm.stream("?").await?;
    while answer.next().await?.is_some() {}
    Ok(())
}

#[tokio::test]
async fn a_program_that_does_not_try_again_is_told_what_was_wanted() {
    let settings = "retry = { max_retries = 0 }\n[models.m]\nprovider = 'vllm'";
    let hasty = |url: &str| {
        let config = Config::from_toml(&format!("{settings}\nbase_url = '{url}'")).unwrap();
        Llm::new(&config).unwrap()
    };
    let complaint = scenarios::UNAVAILABLE.check(hasty).await.unwrap_err().to_string();
    assert!(complaint.starts_with("unavailable: overloaded: ") && complaint.contains("busy"), "{complaint}");
    assert!(complaint.ends_with("; wanted: the answer: it is tried again"), "{complaint}");
}

/// Says something else streamed, knows one score and one text, and calls no tool.
struct Muddled;

impl Provider for Muddled {
    fn call<'a>(&'a self, call: &'a Call) -> BoxFuture<'a, Result<Reply>> {
        Box::pin(async move {
            Ok(Reply::of(match call.request()? {
                Request::Score(_) => Frame::Scores(Scores { scores: vec![0.5], ..Scores::default() }),
                Request::Tokenize(_) => Frame::Tokens(Tokens { count: 1, tokens: vec![7], ..Tokens::default() }),
                Request::Detokenize(_) => Frame::Text("same".into()),
                _ => return Ok(Reply::says(format!("{:?}", call.delivery))),
            }))
        })
    }

    fn serves(&self) -> Operations {
        [Operation::Complete, Operation::Score, Operation::Tokenize, Operation::Detokenize].into()
    }
}

#[tokio::test]
async fn the_checks_of_texts_scores_tokens_and_calls_bite() {
    let subject = Subject::new(&Muddled).calls("Is it sunny?", "weather");
    let complaints = subject.conforms().await.unwrap_err().to_string();
    for complaint in [
        "it streams \"Stream\", and says \"Whole\" whole",
        "it scores each text by itself: 2 texts, [0.5]",
        "\"same\" for a long text, \"same\" for a short one",
        "Whole: 0 calls instead of one of weather",
    ] {
        assert!(complaints.contains(complaint), "{complaint}: {complaints}");
    }
}
