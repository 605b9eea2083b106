//! A house in front of scripted upstreams, and what a client is told.
use std::time::Duration;

use llm_core::dialect::sse;
use llm_tests::house::{House, UNWATCHED};
use llm_tests::http;
use llm_tests::load::{Connection, post};
use llm_tests::raw::{Raw, Step};
use reqwest::header::RETRY_AFTER;
use serde_json::{Value, json};

/// No answer takes longer.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);
/// How soon an upstream must know that nobody waits.
pub(crate) const SOON: Duration = Duration::from_secs(1);
/// Asked once, and given up early.
pub(crate) const ONCE: &str = "retry = { max_retries = 0 }\ntimeout = { first_s = 0.5, idle_s = 0.5 }\n";

pub(crate) const JSON: &str = "content-type: application/json\r\n";
pub(crate) const GOOD: &str =
    r#"{"choices":[{"index":0,"message":{"role":"assistant","content":"fine"},"finish_reason":"stop"}]}"#;
pub(crate) const HALF: &str =
    "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"half\"},\"finish_reason\":null}]}\n\n";
pub(crate) const FINISH: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n";
pub(crate) const DONE: &str = "data: [DONE]\n\n";
/// Stands where no client may see it.
pub(crate) const SECRET: &str = "sk-upstream-7";

/// A house whose model `m` has these upstreams, each a deployment.
pub(crate) fn house(settings: &str, upstreams: &[&Raw]) -> House {
    let deployment = |raw: &&Raw| {
        let url = raw.url();
        format!("[[models.m.deployments]]\nprovider = 'unwatched'\nbase_url = '{url}'\napi_key = '{SECRET}'\n")
    };
    let deployments: String = upstreams.iter().map(deployment).collect();
    House::with(&format!("[models.m]\n{settings}\n{deployments}"), &[UNWATCHED])
}

/// The same, before one upstream that does these steps with each connection.
pub(crate) async fn before(settings: &str, steps: Vec<Step>) -> (House, Raw) {
    let raw = Raw::start(vec![steps]).await;
    (house(settings, &[&raw]), raw)
}

/// Reads a question and sends this.
pub(crate) fn sends(bytes: impl Into<Vec<u8>>) -> Vec<Step> {
    vec![Step::Read, Step::Send(bytes.into())]
}

/// What a client was told.
#[derive(Debug)]
pub(crate) struct Told {
    pub(crate) status: u16,
    pub(crate) retry_after: Option<u64>,
    pub(crate) body: String,
}

impl Told {
    /// The error, in OpenAI's shape, which tells nothing of what is behind the house.
    #[track_caller]
    pub(crate) fn error(&self) -> Value {
        let mut body: Value = serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("not JSON: {self:?}"));
        assert_decent(&body["error"]);
        body["error"].take()
    }

    /// The words of a whole answer.
    pub(crate) fn text(&self) -> String {
        let body: Value = serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("not JSON: {self:?}"));
        body["choices"][0]["message"]["content"].as_str().unwrap_or_else(|| panic!("no answer: {self:?}")).to_owned()
    }

    /// A stream: its words, and the error that ended it.
    #[track_caller]
    pub(crate) fn stream(&self) -> (String, Option<Value>) {
        assert_eq!(self.status, 200, "{self:?}");
        let data: Vec<Vec<u8>> =
            sse::events(self.body.as_bytes()).filter_map(|event| Some(sse::data(event)?.into_owned())).collect();
        let (last, events) = data.split_last().expect("a stream has a last word");
        assert_eq!(last, b"[DONE]", "{self:?}");
        assert!(!events.iter().any(|event| event == b"[DONE]"), "the last word is said once: {self:?}");
        let events: Vec<Value> = events.iter().filter_map(|event| serde_json::from_slice(event).ok()).collect();
        let words = events.iter().filter_map(|event| event["choices"][0]["delta"]["content"].as_str()).collect();
        let is_end = |event: &&Value| event["error"].is_object() || event["choices"][0]["finish_reason"].is_string();
        assert_eq!(events.iter().filter(is_end).count(), 1, "a finish or an error, and once: {self:?}");
        let error = events.last().map(|event| event["error"].clone()).filter(Value::is_object);
        error.iter().for_each(assert_decent);
        (words, error)
    }
}

/// All four fields, and nothing of the address, the key or the upstream's page.
#[track_caller]
pub(crate) fn assert_decent(error: &Value) {
    for field in ["message", "type", "param", "code"] {
        assert!(error.get(field).is_some(), "{field} is missing: {error}");
    }
    let told = error.to_string();
    for secret in [SECRET, "127.0.0.1", "localhost", "models.m", "<"] {
        assert!(!told.contains(secret), "{secret} is told: {error}");
    }
}

pub(crate) fn question(stream: bool) -> Value {
    json!({"model": "m", "stream": stream, "messages": [{"role": "user", "content": "?"}]})
}

/// Asks for a whole answer or a stream.
pub(crate) async fn ask(house: &House, stream: bool) -> Told {
    told(house, question(stream).to_string()).await
}

/// Asks with this body.
pub(crate) async fn told(house: &House, body: impl Into<reqwest::Body>) -> Told {
    let url = house.url() + "/v1/chat/completions";
    let asked = async {
        let response = http::client().post(url).body(body).send().await.unwrap();
        let status = response.status().as_u16();
        let retry_after = response.headers().get(RETRY_AFTER).map(|wait| wait.to_str().unwrap().parse().unwrap());
        Told { status, retry_after, body: response.text().await.unwrap() }
    };
    tokio::time::timeout(PATIENCE, asked).await.expect("an answer")
}

/// A client that has asked, and can leave.
pub(crate) async fn asking(house: &House, stream: bool) -> Connection {
    let mut client = Connection::open(house.address()).await.unwrap();
    let body = question(stream).to_string();
    client.send(&post("/v1/chat/completions", None, body.as_bytes())).await.unwrap();
    client
}

/// Waits until the upstream's connection has been closed.
pub(crate) async fn closes(raw: &Raw) {
    tokio::time::timeout(SOON, raw.closed()).await.expect("the upstream learns that nobody waits");
}

/// Waits until this holds.
pub(crate) async fn until(what: &str, holds: impl Fn() -> bool) {
    let wait = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("never came: {what}"));
}
