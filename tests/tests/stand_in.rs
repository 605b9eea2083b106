//! The stand-in for vLLM and the clients that load it: what the other tests rest on.

use std::sync::Arc;
use std::time::Duration;

use llm_tests::load::{Clients, Connection, Plan, Question, post};
use llm_tests::upstream::Upstream;

const SOON: Duration = Duration::from_secs(5);

fn chat(rest: &str) -> Vec<u8> {
    let body = format!(r#"{{"model":"tiny","messages":[{{"role":"user","content":"hi"}}]{rest}}}"#);
    post("/v1/chat/completions", None, body.as_bytes())
}

async fn asked(upstream: &Upstream, request: &[u8]) -> (u16, String) {
    let mut body = Vec::new();
    let head = Connection::open(upstream.address()).await.unwrap().ask(request, &mut body).await.unwrap();
    (head.status, String::from_utf8(body).unwrap())
}

#[tokio::test]
async fn it_answers_whole() {
    let upstream = Upstream::start().await.unwrap();
    let (status, body) = asked(&upstream, &chat("")).await;
    let value: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!((status, &value["choices"][0]["finish_reason"]), (200, &"stop".into()));
}

#[tokio::test]
async fn it_streams_as_many_tokens_as_it_is_told_and_every_event_is_json() {
    let upstream = Upstream::start().await.unwrap();
    let wish = r#","stream":true,"stream_options":{"include_usage":true},"user":"chunks=20 every_ms=1""#;
    let (_, body) = asked(&upstream, &chat(wish)).await;
    let events: Vec<&str> = body.split_terminator("\n\n").map(|event| event.strip_prefix("data: ").unwrap()).collect();
    let (end, chunks) = events.split_last().unwrap();
    assert_eq!((*end, chunks.len()), ("[DONE]", 1 + 20 + 1 + 1));
    assert!(chunks.iter().all(|chunk| serde_json::from_str::<serde_json::Value>(chunk).is_ok()));
}

#[tokio::test]
async fn a_strict_one_refuses_what_vllm_refuses() {
    let upstream = Upstream::start().await.unwrap();
    assert_eq!(asked(&upstream, &chat(r#","user":"strict=1""#)).await.0, 200);
    assert_eq!(asked(&upstream, &chat(r#","temperature":"hot","user":"strict=1""#)).await.0, 400);
    assert_eq!(asked(&upstream, &chat(r#","user":"status=503""#)).await.0, 503);
}

#[tokio::test]
async fn a_refusal_says_when_to_come_back() {
    let upstream = Upstream::start().await.unwrap();
    let refused = async |wish: &str| {
        let mut client = Connection::open(upstream.address()).await.unwrap();
        client.ask(&chat(&format!(r#","user":"status=429{wish}""#)), &mut Vec::new()).await.unwrap()
    };
    assert_eq!((refused(" retry_after=7").await.status, refused(" retry_after=7").await.retry_after), (429, Some(7)));
    assert_eq!(refused("").await.retry_after, None);
}

#[tokio::test]
async fn the_last_bodies_are_remembered_in_their_order() {
    let upstream = Upstream::start().await.unwrap();
    for turn in 0..70 {
        asked(&upstream, &chat(&format!(r#","turn":{turn}"#))).await;
    }
    let turn = |body: &[u8]| serde_json::from_slice::<serde_json::Value>(body).unwrap()["turn"].as_u64().unwrap();
    let turns: Vec<u64> = upstream.seen().bodies().iter().map(|body| turn(body)).collect();
    assert_eq!(turns, (6..70).collect::<Vec<u64>>());
}

#[tokio::test]
async fn a_client_that_leaves_a_stream_is_seen() {
    let upstream = Upstream::start().await.unwrap();
    let mut client = Connection::open(upstream.address()).await.unwrap();
    client.send(&chat(r#","stream":true,"user":"chunks=100000 every_ms=1""#)).await.unwrap();
    client.head().await.unwrap();
    assert_eq!(upstream.seen().now().open, 1);
    drop(client);
    let tally = upstream.seen().until(SOON, |tally| tally.open == 0).await.unwrap();
    assert_eq!((tally.left, tally.answered), (1, 0));
}

#[tokio::test]
async fn a_stream_cut_short_is_no_answer() {
    let upstream = Upstream::start().await.unwrap();
    let request = chat(r#","stream":true,"user":"chunks=20 cut_after=5""#);
    let mut client = Connection::open(upstream.address()).await.unwrap();
    assert!(client.ask(&request, &mut Vec::new()).await.is_err());
}

#[tokio::test]
async fn clients_that_are_told_something_else_fail_the_run() {
    let upstream = Upstream::start().await.unwrap();
    let right = Question::learn(upstream.address(), chat("")).await.unwrap();
    let wrong = Question { answer: right.answer[1..].to_vec(), ..right.clone() };
    let mut clients = Clients::connect(upstream.address(), 4).await.unwrap();
    let report = clients.run(&Arc::new(right), Plan::counting(25)).await.unwrap();
    assert_eq!(report.answered(), 100);
    assert!(clients.run(&Arc::new(wrong), Plan::counting(25)).await.is_err());
}

#[tokio::test]
async fn an_answer_in_other_words_must_still_have_its_end() {
    let upstream = Upstream::start().await.unwrap();
    let learnt = Question::learn(upstream.address(), chat(r#","stream":true,"user":"chunks=3""#)).await.unwrap();
    let longer = Question { request: chat(r#","stream":true,"user":"chunks=4""#), ..learnt.clone() };
    let shorter = Question { request: chat(r#","stream":true,"user":"chunks=1""#), ..learnt.clone() };
    let endless = Question { request: chat(""), ..learnt };
    let run = async |question: Question| {
        let mut clients = Clients::connect(upstream.address(), 1).await.unwrap();
        clients.run(&Arc::new(question), Plan::counting(1)).await.is_ok()
    };
    assert!(!run(longer.clone()).await);
    assert!(run(longer.in_other_words()).await);
    assert!(!run(shorter.in_other_words()).await);
    assert!(!run(endless.in_other_words()).await);
}
