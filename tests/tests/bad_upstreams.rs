//! What the SDK makes of servers that misbehave: each story is a server's exact bytes and what the caller sees.
use std::time::{Duration, Instant};

use llm_core::{Config, Event, Kind, Llm};
use llm_tests::raw::{Raw, Step, answer, chunk, events_in_chunks, events_until_close};

const CHUNK: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"half\"},\"finish_reason\":null}]}\n\n";
const FINISH: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n";
const GOOD: &str = r#"{"choices":[{"index":0,"message":{"role":"assistant","content":"fine"},"finish_reason":"stop"}],"usage":{"prompt_tokens":3,"completion_tokens":1}}"#;

fn llm(raw: &Raw) -> Llm {
    let text = format!(
        "retry = {{ wait_ms = 20 }}\n[models.m]\nprovider = 'vllm'\nbase_url = '{}'\ntimeout = {{ first_s = 1, idle_s = 1 }}",
        raw.url()
    );
    Llm::new(&Config::from_toml(&text).unwrap()).unwrap()
}

/// Chats with a server that answers the first request with these bytes and later ones well.
async fn first(bytes: Vec<u8>) -> (llm_core::Result<llm_core::ChatReply>, usize) {
    let good = vec![Step::Read, Step::Send(answer("200 OK", "connection: close\r\n", GOOD))];
    let raw = Raw::start(vec![vec![Step::Read, Step::Send(bytes)], good]).await;
    (llm(&raw).chat("?").await, raw.requests().len())
}

async fn streamed(bytes: String) -> (String, llm_core::Result<()>) {
    let raw = Raw::answering(bytes).await;
    let mut text = String::new();
    let mut stream = match llm(&raw).stream("?").await {
        Ok(stream) => stream,
        Err(error) => return (text, Err(error)),
    };
    loop {
        match stream.next_text().await {
            Ok(Some(more)) => text += &more,
            Ok(None) => return (text, Ok(())),
            Err(error) => return (text, Err(error)),
        }
    }
}

#[tokio::test]
async fn a_whole_answer_is_read_with_its_cost() {
    let (reply, asked) = first(answer("200 OK", "content-type: application/json\r\n", GOOD)).await;
    let reply = reply.unwrap();
    assert_eq!((reply.text.as_str(), reply.usage.unwrap().prompt_tokens, asked), ("fine", 3, 1));
}

#[tokio::test]
async fn what_may_pass_is_tried_again_and_what_cannot_is_not() {
    for (status, body, kind, tries) in [
        (
            "400 Bad Request",
            r#"{"error":{"message":"no","type":"BadRequestError","param":"top_p","code":400}}"#,
            Kind::Invalid,
            1,
        ),
        (
            "400 Bad Request",
            r#"{"object":"error","message":"This model's maximum context length is 9","code":400}"#,
            Kind::ContextLength,
            1,
        ),
        ("401 Unauthorized", r#"{"error":"Unauthorized"}"#, Kind::Unauthorized, 1),
        ("302 Found", "", Kind::Internal, 2),
        ("429 Too Many Requests", "slow down", Kind::Internal, 2),
        ("500 Internal Server Error", "<html>", Kind::Internal, 2),
        ("503 Service Unavailable", r#"{"error":{"message":"busy","code":503}}"#, Kind::Internal, 2),
        ("200 OK", "<html>hello</html>", Kind::Internal, 2),
        ("200 OK", r#"{"error":{"message":"a failure inside a 200","code":500}}"#, Kind::Internal, 2),
    ] {
        let (reply, asked) = first(answer(status, "", body)).await;
        assert_eq!(asked, tries, "{status} {body}");
        match reply {
            Ok(reply) => assert!(tries == 2 && reply.text == "fine", "{status}"),
            Err(error) => assert!(tries == 1 && error.kind() == kind, "{status}: {error:?}"),
        }
    }
}

#[tokio::test]
async fn a_server_that_asks_for_a_second_gets_it() {
    let since = Instant::now();
    let (reply, asked) = first(answer("503 Service Unavailable", "retry-after: 1\r\n", "{}")).await;
    assert!(reply.is_ok() && asked == 2 && since.elapsed() >= Duration::from_secs(1));
}

#[tokio::test]
async fn nobody_there_is_unavailable() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let text = format!("retry = {{ wait_ms = 1 }}\n[models.m]\nprovider = 'vllm'\nbase_url = 'http://{closed}'");
    let error = Llm::new(&Config::from_toml(&text).unwrap()).unwrap().chat("?").await.unwrap_err();
    assert_eq!(
        (error.kind(), error.message()),
        (Kind::Unavailable, "the upstream refuses connections: is it running?")
    );
}

#[tokio::test]
async fn a_connection_that_died_while_it_waited_is_replaced_silently() {
    let well = |close: &str| vec![Step::Read, Step::Send(answer("200 OK", close, GOOD))];
    // Says nothing of closing, takes the second request, and hangs up on it.
    let dying = [well(""), vec![Step::Read, Step::Reset]].concat();
    let raw = Raw::start(vec![dying, well("connection: close\r\n")]).await;
    let text = format!("retry = {{ max_retries = 0 }}\n[models.m]\nprovider = 'vllm'\nbase_url = '{}'", raw.url());
    let llm = Llm::new(&Config::from_toml(&text).unwrap()).unwrap();
    assert_eq!(llm.chat("1").await.unwrap().text, "fine");
    assert_eq!(llm.chat("2").await.unwrap().text, "fine");
    assert_eq!(raw.requests().len(), 3);
}

#[tokio::test]
async fn a_stream_that_breaks_off_is_an_error_however_it_breaks() {
    let cut = [events_until_close(), CHUNK].concat();
    let chunked_cut = [events_in_chunks(), &chunk(CHUNK)].concat();
    let in_an_event = [events_until_close(), CHUNK, &FINISH[..30]].concat();
    for bytes in [cut, chunked_cut, in_an_event] {
        let (text, end) = streamed(bytes).await;
        assert_eq!((text.as_str(), end.unwrap_err().get_code()), ("half", Some("stream_truncated")));
    }
}

#[tokio::test]
async fn a_reset_in_mid_stream_keeps_what_had_come() {
    let steps = vec![
        Step::Read,
        Step::Send([events_in_chunks(), &chunk(CHUNK)].concat().into()),
        Step::Pause(Duration::from_millis(100)),
        Step::Reset,
    ];
    let raw = Raw::start(vec![steps]).await;
    let mut stream = llm(&raw).stream("?").await.unwrap();
    assert_eq!(stream.next().await.unwrap(), Some(Event::Text("half".into())));
    assert_eq!(stream.next().await.unwrap_err().kind(), Kind::Upstream);
}

#[tokio::test]
async fn a_failure_in_mid_stream_is_the_servers_own_words() {
    let error = "data: {\"error\": {\"message\": \"the engine died\", \"type\": \"InternalServerError\", \"code\": 500}}\n\ndata: [DONE]\n\n";
    let (text, end) = streamed([events_until_close(), CHUNK, error].concat()).await;
    assert_eq!((text.as_str(), end.unwrap_err().message()), ("half", "the engine died"));
    // Before the first word it is the call's, so that a retry can act on it.
    let (text, end) = streamed([events_until_close(), ": hello\n\n", error].concat()).await;
    assert_eq!((text.as_str(), end.unwrap_err().kind()), ("", Kind::Upstream));
}

#[tokio::test]
async fn a_failure_in_a_last_event_without_its_end_is_told_as_it_is() {
    let error = r#"data: {"error": {"message": "This model's maximum context length is 9 tokens", "code": 400}}"#;
    for before in [vec![], vec![CHUNK], vec![CHUNK, FINISH]] {
        let (_, end) = streamed([&[events_until_close()][..], &before, &[error, "\n"]].concat().concat()).await;
        assert_eq!(end.unwrap_err().kind(), Kind::ContextLength, "{before:?}");
    }
}

#[tokio::test]
async fn a_programs_stream_asks_for_what_it_was_told_to_and_is_told_all_of_the_cost() {
    let cost = r#"data: {"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":1,"cost":0.5}}"#;
    let raw = Raw::start(vec![vec![
        Step::Read,
        Step::Send([events_until_close(), CHUNK, FINISH, cost, "\n\ndata: [DONE]\n\n"].concat().into()),
    ]])
    .await;
    let wish = serde_json::json!({"continuous_usage_stats": true});
    let mut stream = llm(&raw).stream(llm_core::ChatRequest::new("?").extra("stream_options", wish)).await.unwrap();
    while stream.next().await.unwrap().is_some() {}
    assert_eq!(stream.so_far().extra["usage"], serde_json::json!({"cost": 0.5}));
    let sent = &raw.requests()[0];
    assert!(sent.contains(r#""continuous_usage_stats":true"#) && sent.contains(r#""include_usage":true"#), "{sent}");
}

#[tokio::test]
async fn ends_that_are_merely_untidy_are_ends() {
    for end in [
        FINISH.to_owned(),
        format!("{FINISH}data: [DONE]"),
        format!("{FINISH}data: [DONE]\n\n"),
        "data: [DONE]\n\n".replace("data: ", "data:"),
    ] {
        let finish = if end.starts_with(FINISH) { "" } else { FINISH };
        let (text, told) = streamed([events_until_close(), CHUNK, finish, &end].concat()).await;
        assert!(text == "half" && told.is_ok(), "{end:?} {told:?}");
    }
    let crlf = [CHUNK, FINISH].concat().replace('\n', "\r\n");
    assert!(streamed([events_until_close(), &crlf].concat()).await.1.is_ok());
}

#[tokio::test]
async fn a_whole_answer_where_a_stream_was_asked_is_read_as_it_is() {
    let (text, end) =
        streamed(String::from_utf8(answer("200 OK", "content-type: application/json\r\n", GOOD)).unwrap()).await;
    assert!(text == "fine" && end.is_ok());
}

#[tokio::test]
async fn what_hangs_is_given_up_and_the_connection_is_closed() {
    let raw = Raw::start(vec![vec![Step::Read, Step::UntilClosed]]).await;
    let text = format!(
        "retry = {{ max_retries = 0 }}\n[models.m]\nprovider = 'vllm'\nbase_url = '{}'\ntimeout = {{ first_s = 0.2 }}",
        raw.url()
    );
    let llm = Llm::new(&Config::from_toml(&text).unwrap()).unwrap();
    assert_eq!(llm.chat("?").await.unwrap_err().kind(), Kind::Timeout);
    tokio::time::timeout(Duration::from_secs(2), raw.closed()).await.expect("the upstream learns that nobody waits");
}

#[tokio::test]
async fn dropping_a_stream_closes_its_connection() {
    let steps = vec![Step::Read, Step::Send([events_in_chunks(), &chunk(CHUNK)].concat().into()), Step::UntilClosed];
    let raw = Raw::start(vec![steps]).await;
    let mut stream = llm(&raw).stream("?").await.unwrap();
    stream.next().await.unwrap();
    drop(stream);
    tokio::time::timeout(Duration::from_millis(500), raw.closed()).await.expect("the upstream learns it at once");
}

#[tokio::test]
async fn what_a_program_asks_reaches_the_server_as_it_should() {
    let raw = Raw::answering(answer("200 OK", "connection: close\r\n", GOOD)).await;
    let text = format!(
        "[models.m]\nprovider = 'vllm'\nmodel = 'org/real'\nbase_url = '{}/v1'\napi_key = 'sk-secret'\nheaders = {{ 'x-team' = 'a' }}",
        raw.url()
    );
    let llm = Llm::new(&Config::from_toml(&text).unwrap()).unwrap();
    llm.chat(
        llm_core::ChatRequest::new("hi").temperature(0.2).extra("chat_template_kwargs", serde_json::json!({"a": 1})),
    )
    .await
    .unwrap();
    let request = raw.requests().pop().unwrap();
    let (head, body) = request.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("POST /v1/chat/completions HTTP/1.1\r\n"), "{head}");
    assert!(head.contains("authorization: Bearer sk-secret") && head.contains("x-team: a"), "{head}");
    let body: serde_json::Value = serde_json::from_str(body).unwrap();
    let wanted = serde_json::json!({"model": "org/real", "messages": [{"role": "user", "content": "hi"}], "temperature": 0.2, "chat_template_kwargs": {"a": 1}});
    assert_eq!(body, wanted);
}
