//! A vLLM that starts after the gateway, dies in mid-answer and comes back: what clients see, and what the status says.
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use llm_core::{ChatRequest, Config, Kind, Llm};
use llm_tests::house::House;
use llm_tests::http;
use llm_tests::vllm::Vllm;
use reqwest::{Response, StatusCode};
use serde_json::{Value, json};

async fn ask(house: &House, question: &str, stream: bool, wait: u32) -> Response {
    let messages = json!([{"role": "user", "content": question}]);
    let body =
        json!({"model": "tiny-chat", "messages": messages, "stream": stream, "temperature": 0, "max_tokens": 200});
    let request = http::client().post(format!("{}/v1/chat/completions", house.url())).json(&body);
    request.header("prefer", format!("wait={wait}")).send().await.unwrap()
}

fn status(house: &House) -> &'static str {
    house.gateway.models()[0].status
}

async fn becomes(house: &House, wanted: &str, within: Duration) {
    let since = Instant::now();
    while status(house) != wanted {
        assert!(since.elapsed() < within, "it is {} and not {wanted}", status(house));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn starts(port: u16) -> Vllm {
    tokio::task::spawn_blocking(move || Vllm::own(&format!("locked:{port}"))).await.unwrap()
}

async fn refusal(response: Response) -> (StatusCode, bool, Value) {
    let (status, says_when) = (response.status(), response.headers().contains_key("retry-after"));
    let body: Value = serde_json::from_slice(&response.bytes().await.unwrap()).unwrap();
    (status, says_when, body["error"]["code"].clone())
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_starts_late_and_dies_in_mid_answer_is_told_as_it_is_and_is_back_by_itself() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let house = House::of(&format!(
        "[models.tiny-chat]\nprovider = 'vllm'\nbase_url = 'http://127.0.0.1:{port}'\napi_key = '{}'\n\
         retry = {{ max_retries = 0 }}",
        Vllm::KEY
    ));
    becomes(&house, "loading", Duration::from_secs(5)).await;
    assert_eq!(http::get(&format!("{}/ready", house.url())).0, 503);
    let told = refusal(ask(&house, "hello", false, 0).await).await;
    assert_eq!(told, (StatusCode::SERVICE_UNAVAILABLE, true, "model_loading".into()));

    // Whoever would wait is answered as soon as it is there.
    let (vllm, patient) = tokio::join!(starts(port), ask(&house, "What is the capital of France?", true, 600));
    let answer = patient.text().await.unwrap();
    assert!(answer.contains("data: [DONE]") && !answer.contains("\"error\""), "{answer}");
    becomes(&house, "ready", Duration::from_secs(10)).await;
    assert_eq!(http::get(&format!("{}/ready", house.url())).0, 200);
    let card: Value = serde_json::from_str(&http::get(&format!("{}/v1/models", house.url())).1).unwrap();
    assert_eq!(card["data"][0]["status"]["value"], "ready");
    assert!(card["data"][0]["max_model_len"].as_u64() > Some(0), "{card}");
    assert!(!card.to_string().contains("127.0.0.1"), "where it is is nobody's business: {card}");

    a_wrong_key_is_told_as_it_is(port).await;
    let mut running = drained(&house, vllm).await;
    running = without_its_engine(&house, running).await;
    for _ in 0..kills() {
        killed(&house, running).await;
        running = starts(port).await;
        becomes(&house, "ready", Duration::from_secs(40)).await; // it rests for half a minute at most
        assert_eq!(ask(&house, "hello", false, 0).await.status(), StatusCode::OK);
    }
}

fn llm(base_url: &str, key: &str) -> Llm {
    let settings = format!("[models.tiny-chat]\nprovider = 'vllm'\nbase_url = '{base_url}'\napi_key = '{key}'");
    Llm::new(&Config::from_toml(&settings).unwrap()).unwrap()
}

/// A program learns that its key is wrong; a client of the gateway, whose own key is right, that the gateway's is.
async fn a_wrong_key_is_told_as_it_is(port: u16) {
    let url = format!("http://127.0.0.1:{port}");
    let error = llm(&url, "sk-wrong").chat("hello").await.unwrap_err();
    assert_eq!((error.kind(), error.message()), (Kind::Unauthorized, "Unauthorized"));
    let house = House::of(&format!("[models.tiny-chat]\nprovider = 'vllm'\nbase_url = '{url}'\napi_key = 'sk-wrong'"));
    becomes(&house, "error", Duration::from_secs(10)).await;
    let told = refusal(ask(&house, "hello", false, 0).await).await;
    assert_eq!(told, (StatusCode::BAD_GATEWAY, false, "upstream_key_refused".into()));
}

/// One that was told to end ends what it has begun, which nobody new is sent to; another takes its place.
async fn drained(house: &House, mut vllm: Vllm) -> Vllm {
    let port = port(&vllm);
    let begun = begun(house, 1500).await;
    vllm.drain();
    let since = Instant::now();
    let (code, says_when, why) = loop {
        let told = refusal(ask(house, "hello", false, 0).await).await;
        if told.0 != StatusCode::OK {
            break told;
        }
        assert!(since.elapsed() < Duration::from_secs(10), "it takes questions on and on");
    };
    assert_eq!((code, says_when, why), (StatusCode::SERVICE_UNAVAILABLE, true, "model_draining".into()));
    becomes(house, "draining", Duration::from_secs(5)).await;
    let said = begun.text().await.unwrap();
    assert!(said.contains(r#""finish_reason":"length""#) && said.ends_with("data: [DONE]\n\n"), "{said}");
    becomes(house, "error", Duration::from_secs(30)).await;
    another(house, vllm, port).await
}

/// One whose engine dies says so in its last words, and what it says reaches the client.
async fn without_its_engine(house: &House, mut vllm: Vllm) -> Vllm {
    let port = port(&vllm);
    let mut stream = begun(house, 3000).await.bytes_stream();
    let mut said = stream.next().await.unwrap().unwrap().to_vec();
    vllm.break_engine();
    while let Some(more) = stream.next().await {
        said.extend_from_slice(&more.expect("the connection ends as it should"));
    }
    let said = String::from_utf8(said).unwrap();
    let (_, end) = said.rsplit_once("data: {\"error\"").expect("an error event");
    assert!(end.contains("EngineCore encountered an issue") && end.ends_with("data: [DONE]\n\n"), "{end}");
    assert_eq!(said.matches("[DONE]").count(), 1, "{said}");
    becomes(house, "error", Duration::from_secs(5)).await;
    another(house, vllm, port).await
}

fn port(vllm: &Vllm) -> u16 {
    vllm.base_url().rsplit([':', '/']).find_map(|part| part.parse().ok()).expect("a port")
}

async fn begun(house: &House, max_tokens: u32) -> Response {
    let question = json!({"model": "tiny-chat", "stream": true, "ignore_eos": true, "max_tokens": max_tokens,
                          "messages": [{"role": "user", "content": "Count to 80."}]});
    http::client().post(format!("{}/v1/chat/completions", house.url())).json(&question).send().await.unwrap()
}

/// In the place of one that has gone.
async fn another(house: &House, gone: Vllm, port: u16) -> Vllm {
    tokio::task::spawn_blocking(move || drop(gone)).await.unwrap();
    let next = starts(port).await;
    becomes(house, "ready", Duration::from_secs(40)).await; // it rests for half a minute at most
    next
}

/// Once in the short run; a start takes half a minute.
fn kills() -> usize {
    llm_tests::factor().min(3)
}

/// What a client in mid-answer is told when its vLLM dies, and those who come after.
async fn killed(house: &House, vllm: Vllm) {
    let program = llm(vllm.base_url(), Vllm::KEY);
    let long = ChatRequest::new("Count to 80.").temperature(0.0).max_tokens(3000).extra("ignore_eos", true);
    let mut heard = program.stream(long).await.unwrap();
    assert!(heard.next().await.unwrap().is_some());
    let mut stream = ask(house, "Count to 80.", true, 0).await.bytes_stream();
    let mut said = stream.next().await.unwrap().unwrap().to_vec();
    tokio::task::spawn_blocking(|| vllm.kill()).await.unwrap();
    while let Some(more) = stream.next().await {
        said.extend_from_slice(&more.expect("the connection ends as it should"));
    }
    let end = loop {
        match heard.next().await {
            Ok(Some(_)) => {}
            end => break end,
        }
    };
    let broken = end.expect_err("half an answer is no answer, for a program too");
    assert!(matches!(broken.kind(), Kind::Upstream | Kind::Unavailable), "{broken:?}");
    let said = String::from_utf8(said).unwrap();
    let (_, end) = said.rsplit_once("data: {\"error\"").expect("an error event");
    assert!(end.ends_with("data: [DONE]\n\n") && said.matches("[DONE]").count() == 1, "{said}");
    becomes(house, "error", Duration::from_secs(5)).await;
    let (code, says_when, _) = refusal(ask(house, "hello", false, 0).await).await;
    assert!(matches!(code, StatusCode::SERVICE_UNAVAILABLE) && says_when, "{code}");
}
