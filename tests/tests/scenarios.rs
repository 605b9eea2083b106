//! The kit's difficult servers, one story each, as a program sees them through an `Llm`.
use std::time::{Duration, Instant};

use llm_core::testkit::scenarios::*;
use llm_core::testkit::{Mock, Scenario};
use llm_core::{ChatReply, ChatStream, Config, Error, Event, FinishReason, Image, Kind, Llm};

/// A program's own settings, but that it waits milliseconds where it would wait seconds.
fn llm(server: &Mock) -> Llm {
    let text = format!(
        "retry = {{ wait_ms = 200 }}\n[models.m]\nprovider = 'vllm'\nbase_url = '{}'\ntimeout = {{ first_s = 0.3, idle_s = 0.3 }}",
        server.url()
    );
    Llm::new(&Config::from_toml(&text).unwrap()).unwrap()
}

async fn chat(scenario: Scenario) -> (llm_core::Result<ChatReply>, usize) {
    let server = scenario.serve().await;
    (llm(&server).chat("?").await, server.requests().len())
}

/// Every event of a stream, and how it ended.
async fn rest(mut stream: ChatStream) -> (Vec<Event>, Option<Error>, ChatReply) {
    let mut events = Vec::new();
    loop {
        match stream.next().await {
            Ok(Some(event)) => events.push(event),
            Ok(None) => return (events, None, stream.so_far().clone()),
            Err(error) => return (events, Some(error), stream.so_far().clone()),
        }
    }
}

async fn stream(scenario: Scenario) -> (Vec<Event>, Option<Error>, ChatReply) {
    let server = scenario.serve().await;
    rest(llm(&server).stream("?").await.unwrap()).await
}

fn finishes(events: &[Event]) -> usize {
    events.iter().filter(|event| matches!(event, Event::Finish(_))).count()
}

#[test]
fn there_are_all_those_that_the_kit_promises() {
    let names: std::collections::BTreeSet<_> = SCENARIOS.iter().map(|s| s.name).collect();
    assert_eq!((SCENARIOS.len(), names.len()), (19, 19));
}

#[tokio::test]
async fn a_prompt_that_is_too_long_is_told_as_that_at_once() {
    for scenario in [CONTEXT_LENGTH, FLAT_ERROR] {
        let (reply, asked) = chat(scenario).await;
        let error = reply.unwrap_err();
        assert_eq!((error.kind(), asked), (Kind::ContextLength, 1), "{scenario:?}");
        assert_eq!(error.get_code(), Some("context_length_exceeded"));
        assert!(error.message().starts_with("This model's maximum context length is 2048"), "{error}");
    }
}

#[tokio::test]
async fn what_is_busy_is_asked_again() {
    for scenario in [BUSY_IN_PLAIN_TEXT, BUSY_WITH_A_NUMBER, UNAVAILABLE] {
        let (reply, asked) = chat(scenario).await;
        assert_eq!((reply.unwrap().text.as_str(), asked), ("fine", 2), "{scenario:?}");
        let (events, error, reply) = stream(scenario).await;
        assert!(error.is_none() && reply.text == "fine" && finishes(&events) == 1, "{scenario:?}");
    }
}

#[tokio::test]
async fn a_server_that_asks_for_a_second_gets_it() {
    let since = Instant::now();
    let (reply, asked) = chat(RETRY_AFTER).await;
    assert_eq!((reply.unwrap().text.as_str(), asked), ("fine", 2));
    assert!(since.elapsed() >= Duration::from_secs(1), "{:?}", since.elapsed());
}

#[tokio::test]
async fn a_server_that_is_just_being_started_is_asked_again() {
    assert_eq!(chat(REFUSED_AT_FIRST).await.0.unwrap().text, "fine");
}

#[tokio::test]
async fn an_end_that_nobody_has_a_word_for_is_an_end() {
    let (whole, streamed) = (ODD_FINISH.serve().await, ODD_FINISH.serve().await);
    let other = |word: &str| Some(FinishReason::Other(word.into()));
    for reason in [other("abort"), other("repetition"), Some(FinishReason::Stop)] {
        let reply = llm(&whole).chat("?").await.unwrap();
        assert_eq!((reply.text.as_str(), &reply.finish_reason), ("fine", &reason));
        let (events, error, reply) = rest(llm(&streamed).stream("?").await.unwrap()).await;
        assert!(error.is_none() && finishes(&events) == 1 && reply.text == "fine", "{reason:?}: {error:?} {events:?}");
        assert_eq!(reply.finish_reason, reason);
    }
}

#[tokio::test]
async fn thoughts_are_told_apart_under_either_name() {
    let server = REASONING.serve().await;
    for _ in 0..2 {
        let (events, error, reply) = rest(llm(&server).stream("?").await.unwrap()).await;
        assert!(error.is_none() && finishes(&events) == 1);
        assert_eq!((reply.reasoning.as_str(), reply.text.as_str()), ("let me think", "fine"));
        assert_eq!(reply.usage.unwrap().completion_tokens, 8, "what it cost is told, though nobody asked the server");
    }
}

#[tokio::test]
async fn a_failure_in_mid_stream_is_the_end_in_the_servers_own_words() {
    let (events, error, reply) = stream(ERROR_IN_STREAM).await;
    let error = error.unwrap();
    assert_eq!((error.kind(), error.message()), (Kind::Upstream, "the engine died"));
    assert!(reply.text == "half" && finishes(&events) == 0);
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_no_answer() {
    let (_, error, reply) = stream(CUT).await;
    assert_eq!((reply.text.as_str(), error.unwrap().get_code()), ("half", Some("stream_truncated")));
    let (_, error, reply) = stream(RESET).await;
    assert_eq!((reply.text.as_str(), error.unwrap().kind()), ("half", Kind::Upstream));
}

#[tokio::test]
async fn two_tool_calls_in_fragments_are_two_tool_calls() {
    let (_, error, reply) = stream(PARALLEL_TOOLS).await;
    assert!(error.is_none() && reply.finish_reason == Some(FinishReason::ToolCalls), "{error:?}");
    let call = |id: &str, city: &str| serde_json::json!({"id": id, "type": "function", "function": {"name": "get_weather", "arguments": format!("{{\"city\":\"{city}\"}}")}});
    let calls: Vec<_> = reply.tool_calls.iter().map(|call| serde_json::to_value(call).unwrap()).collect();
    assert_eq!(calls, [call("call_paris", "Paris"), call("call_rome", "Rome")]);
}

#[tokio::test]
async fn a_stream_may_come_byte_by_byte() {
    let (events, error, reply) = stream(BYTE_BY_BYTE).await;
    assert!(error.is_none() && finishes(&events) == 1, "{error:?}");
    assert_eq!(reply.text, "Grüße, 世界 🌍");
}

#[tokio::test]
async fn what_hangs_is_given_up_and_let_go() {
    let server = HANG.serve().await;
    assert_eq!(llm(&server).chat("?").await.unwrap_err().kind(), Kind::Timeout);
    closes(&server, Duration::from_secs(1)).await;
}

#[tokio::test]
async fn what_stalls_keeps_what_it_said_and_is_let_go() {
    let server = STALL.serve().await;
    let (_, error, reply) = rest(llm(&server).stream("?").await.unwrap()).await;
    assert_eq!((reply.text.as_str(), error.unwrap().kind()), ("half", Kind::Timeout));
    closes(&server, Duration::from_secs(1)).await;
}

#[tokio::test]
async fn a_stream_that_is_dropped_is_closed_within_50_ms() {
    let mut best = Duration::MAX;
    for _ in 0..5 {
        let server = ENDLESS.serve().await;
        let mut stream = llm(&server).stream("?").await.unwrap();
        assert_eq!(stream.next_text().await.unwrap().as_deref(), Some("half"));
        let since = Instant::now();
        drop(stream);
        closes(&server, Duration::from_secs(1)).await;
        best = best.min(since.elapsed()); // a busy machine may be late, but not always
    }
    assert!(best < Duration::from_millis(50), "{best:?}");
}

async fn closes(server: &Mock, within: Duration) {
    tokio::time::timeout(within, server.closed()).await.expect("the server learns that nobody waits");
}

#[tokio::test]
async fn a_refusal_of_a_stream_is_the_calls() {
    let server = REFUSED_STREAM.serve().await;
    let error = llm(&server).stream("?").await.err().expect("an error of the call");
    assert_eq!((error.kind(), error.get_code()), (Kind::NotFound, Some("model_not_found")));
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn a_whole_answer_where_a_stream_was_asked_for_is_read_as_it_is() {
    let (events, error, reply) = stream(WHOLE_FOR_STREAM).await;
    assert!(error.is_none() && finishes(&events) == 1 && reply.text == "fine", "{error:?}");
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
