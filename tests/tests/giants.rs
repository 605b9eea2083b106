//! Upstreams that would fill the memory are cut short. A file of its own, for it is the whole process that is weighed.
use std::time::{Duration, Instant};

use llm_core::dialect::sse;
use llm_tests::house::{House, UNWATCHED};
use llm_tests::http;
use llm_tests::load::resident;
use llm_tests::raw::{Raw, Step, chunk, events_in_chunks};
use serde_json::{Value, json};

const JSON: &str = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n";
const HALF: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"half\"},\"finish_reason\":null}]}\n\n";
/// A whole answer may have 256 MiB, and a buffer that doubles has twice that while it fills; behind it nothing may stay.
const STAYS: u64 = 32 << 20;
const PATIENCE: Duration = Duration::from_secs(60);

/// What comes first, what comes then over and over, and what the client is told.
struct Giant {
    name: &'static str,
    begins: String,
    goes_on: String,
    streams: bool,
    says: &'static str,
}

fn giants() -> Vec<Giant> {
    let much = "x".repeat(1 << 20);
    let giant = |name, begins: &str, goes_on: &str, says| {
        let streams = begins.contains("event-stream");
        Giant { name, begins: begins.to_owned(), goes_on: goes_on.to_owned(), streams, says }
    };
    let longer = "longer than 268435456 bytes";
    let an_event = "an event of more than 16 MiB";
    vec![
        giant("told to be long", &format!("{JSON}content-length: 1000000000000\r\n\r\n{{\"a\":\""), &much, longer),
        giant("in chunks", &format!("{JSON}transfer-encoding: chunked\r\n\r\n1\r\n{{\r\n"), &chunk(&much), longer),
        giant("until it closes", &format!("{JSON}connection: close\r\n\r\n{{"), &much, longer),
        giant(
            "a refusal",
            &JSON.replace("200 OK", "500 Oh").replace("json\r\n", "json\r\n\r\n"),
            &much,
            "answered 500",
        ),
        giant("a head", "HTTP/1.1 200 OK\r\nx: ", &much, "does not speak HTTP"),
        giant("heads", "HTTP/1.1 200 OK\r\n", "x: y\r\n", "does not speak HTTP"),
        giant("a chunk's size", &format!("{JSON}transfer-encoding: chunked\r\n\r\n"), "1", "broke off"),
        giant("trailers", &format!("{JSON}transfer-encoding: chunked\r\n\r\n2\r\n{{}}\r\n0\r\n"), &much, "broke off"),
        giant("a first event", events_in_chunks(), &chunk(&much), an_event),
        giant("an event", &[events_in_chunks(), &chunk(HALF)].concat(), &chunk(&much), an_event),
        giant(
            "an event of many lines",
            &[events_in_chunks(), &chunk(HALF)].concat(),
            &chunk(&"data: x\n".repeat(8 << 10)),
            an_event,
        ),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_without_end_is_cut_short_and_nothing_of_it_stays() {
    let me = std::process::id();
    let mut settled = resident(me).unwrap();
    for giant in giants() {
        let since = Instant::now();
        tokio::time::timeout(PATIENCE, met(&giant)).await.unwrap_or_else(|_| panic!("{}: it goes on", giant.name));
        let grown = resident(me).unwrap().saturating_sub(settled);
        assert!(grown < STAYS, "{}: {} MiB stay", giant.name, grown >> 20);
        println!("{}: {:?}, {} MiB stay", giant.name, since.elapsed(), grown >> 20);
        settled = settled.max(resident(me).unwrap());
    }
}

async fn met(giant: &Giant) {
    let steps = vec![Step::Read, Step::Send(giant.begins.clone().into()), Step::Flood(giant.goes_on.clone().into())];
    let raw = Raw::start(vec![steps]).await;
    let url = raw.url();
    let settings = format!("retry = {{ max_retries = 0 }}\n[models.m]\nprovider = 'unwatched'\nbase_url = '{url}'");
    let house = House::with(&settings, &[UNWATCHED]);
    let (status, body) = asked(&house, giant.streams).await;
    let has_begun = giant.begins.contains("half");
    assert_eq!(status, if has_begun { 200 } else { 502 }, "{}: {body}", giant.name);
    assert_eq!(body.contains("half"), has_begun, "{}", giant.name);
    let error = error_of(&body);
    assert_eq!(error["type"], "server_error", "{}: {error}", giant.name);
    assert!(error["message"].as_str().unwrap().contains(giant.says), "{}: {error}", giant.name);
    raw.closed().await;
}

async fn asked(house: &House, stream: bool) -> (u16, String) {
    let question = json!({"model": "m", "stream": stream, "messages": [{"role": "user", "content": "?"}]});
    let request = http::client().post(house.url() + "/v1/chat/completions").body(question.to_string());
    let response = request.send().await.unwrap();
    (response.status().as_u16(), response.text().await.unwrap())
}

/// The whole body, or the event before the last word.
fn error_of(body: &str) -> Value {
    let events: Vec<_> = sse::events(body.as_bytes()).filter_map(sse::data).collect();
    let error: serde_json::Result<Value> = match &events[..] {
        [.., error, last] if **last == *b"[DONE]" => serde_json::from_slice(error),
        _ => serde_json::from_str(body),
    };
    error.unwrap_or_else(|_| panic!("no error: {body}"))["error"].take()
}
