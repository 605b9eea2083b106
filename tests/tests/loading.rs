//! A model that is yet to be started, as clients see it.
use std::time::Duration;

use futures_util::StreamExt;
use llm_tests::house::House;
use llm_tests::http;
use llm_tests::upstream::Reserved;

const PATIENCE: Duration = Duration::from_secs(30);

fn house(upstream: &Reserved) -> House {
    House::of(&format!("[models.m]\nprovider = 'vllm'\nbase_url = '{}'\nhealth = {{ canary = false }}", upstream.url()))
}

fn ask(house: &House, prefer: &str) -> reqwest::RequestBuilder {
    let body = r#"{"model":"m","messages":[{"role":"user","content":"?"}],"stream":true}"#;
    http::client().post(format!("{}/v1/chat/completions", house.url())).header("prefer", prefer).body(body)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_waits_for_its_model_is_kept_awake_and_then_answered() {
    let upstream = Reserved::new().unwrap();
    let house = house(&upstream);
    let refused = ask(&house, "").send().await.unwrap();
    assert_eq!((refused.status().as_u16(), refused.headers().contains_key("retry-after")), (503, true));
    assert!(refused.text().await.unwrap().contains("model_loading"));

    let response = tokio::time::timeout(PATIENCE, ask(&house, "wait=60").send()).await.expect("the headers").unwrap();
    assert_eq!(response.status().as_u16(), 200);
    let mut stream = response.bytes_stream();
    let first = tokio::time::timeout(PATIENCE, stream.next()).await.expect("a comment").unwrap().unwrap();
    assert_eq!(first, ": the model is being loaded\n\n");
    let upstream = upstream.start().unwrap();
    let rest = async {
        let mut rest = Vec::new();
        while let Some(piece) = stream.next().await {
            rest.extend_from_slice(&piece.unwrap());
        }
        String::from_utf8(rest).unwrap()
    };
    let rest = tokio::time::timeout(PATIENCE, rest).await.expect("the answer");
    assert!(rest.contains("\"content\"") && rest.ends_with("data: [DONE]\n\n"), "{rest}");
    assert_eq!(rest.matches("[DONE]").count(), 1);
    assert!(upstream.seen().now().arrived >= 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_whose_model_does_not_come_in_time_is_told_so() {
    let upstream = Reserved::new().unwrap();
    let house = house(&upstream);
    let said =
        tokio::time::timeout(PATIENCE, async { ask(&house, "wait=3").send().await.unwrap().text().await.unwrap() });
    let said = said.await.expect("it ends");
    assert!(said.starts_with(": the model is being loaded\n\n") && said.contains("model_loading"), "{said}");
    assert!(said.ends_with("data: [DONE]\n\n"), "{said}");
}
