//! What fails before the client has seen a byte is a status and an error, whatever was asked for.
use std::time::Duration;

use llm_tests::http;
use llm_tests::raw::{Raw, Step, answer, chunk, events_in_chunks, events_until_close};
use serde_json::{Value, json};

use super::kit::*;

/// A misdeed, and the error that the client is told of it.
struct Case {
    name: &'static str,
    steps: Vec<Step>,
    status: u16,
    kind: &'static str,
    code: Value,
    says: &'static str,
}

/// Most are the upstream's fault.
fn bad(name: &'static str, steps: Vec<Step>, says: &'static str) -> Case {
    Case { name, steps, status: 502, kind: "server_error", code: Value::Null, says }
}

fn nonsense(name: &'static str, steps: Vec<Step>, says: &'static str) -> Case {
    Case { code: json!("upstream_invalid_answer"), ..bad(name, steps, says) }
}

fn cut(name: &'static str, steps: Vec<Step>) -> Case {
    Case { code: json!("stream_truncated"), ..bad(name, steps, "the answer broke off before its end") }
}

fn late(name: &'static str, steps: Vec<Step>) -> Case {
    Case { status: 504, kind: "timeout_error", ..bad(name, steps, "the answer did not begin in time") }
}

fn key_refused(name: &'static str, status: &str) -> Case {
    let steps = sends(answer(status, JSON, &format!(r#"{{"error":{{"message":"wrong key {SECRET}"}}}}"#)));
    Case { code: json!("upstream_key_refused"), ..bad(name, steps, "the upstream refuses this gateway's key") }
}

/// So much of an answer, and the end of the connection.
fn broken_off(head: &str, body: &str) -> Vec<Step> {
    sends(format!("{head}\r\n{JSON}\r\n{body}"))
}

/// Byte by byte, with a pause behind each.
pub(crate) fn drip(bytes: &[u8], pause: Duration) -> Vec<Step> {
    let drops = bytes.iter().flat_map(|byte| [Step::Send(vec![*byte]), Step::Pause(pause)]);
    [Step::Read].into_iter().chain(drops).collect()
}

fn cases() -> Vec<Case> {
    let page = format!("<html>{SECRET}</html>");
    let speaks_no_http = "the upstream does not speak HTTP as it should";
    let closed = "the upstream closed the connection before it answered";
    let no_object = "the upstream answered 200 with something that is no JSON object";
    let half = &GOOD[..40];
    vec![
        bad("closed before the head", vec![Step::Read], closed),
        bad("reset before the head", vec![Step::Read, Step::Reset], closed),
        bad("closed within the head", sends("HTTP/1.1 200 OK\r\ncontent-le"), closed),
        late("half open", vec![Step::Read, Step::UntilClosed]),
        late("not even read", vec![Step::UntilClosed]),
        late("a head that drips", drip(&[b"HTTP/1.1 200 OK\r\nx: ", &[b'y'; 2_000][..]].concat(), ms(1))),
        late("a body that never comes", hangs(format!("HTTP/1.1 200 OK\r\n{JSON}content-length: 9\r\n\r\n"))),
        late("comments and no event", hangs([events_until_close(), ": still here\n\n: and here\n\n"].concat())),
        bad("another protocol", sends("SSH-2.0-OpenSSH_9\r\n\r\n"), speaks_no_http),
        bad("a head without end", sends(format!("HTTP/1.1 200 OK\r\nx: {}", "y".repeat(1 << 20))), speaks_no_http),
        bad(
            "two lengths",
            sends("HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\n{}"),
            speaks_no_http,
        ),
        bad("a negative length", sends("HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n{}"), speaks_no_http),
        nonsense("a page with 200", sends(answer("200 OK", "content-type: text/html\r\n", &page)), no_object),
        bad(
            "a page with 500",
            sends(answer("500 Oh", "content-type: text/html\r\n", &page)),
            "500 with a page of HTML",
        ),
        nonsense("an empty 200", sends(answer("200 OK", JSON, "")), no_object),
        nonsense("204", sends("HTTP/1.1 204 No Content\r\n\r\n"), no_object),
        bad("101", sends("HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\n\r\n"), "101"),
        nonsense("gzip", sends(zipped("application/json")), "compressed, and nobody asked for that"),
        nonsense("a stream in gzip", sends(zipped("text/event-stream")), "compressed, and nobody asked for that"),
        bad("307", moved("307 Temporary Redirect"), "redirects are not followed"),
        bad("301", moved("301 Moved Permanently"), "redirects are not followed"),
        bad("an error in a 200", sends(answer("200 OK", JSON, FAILURE)), "the engine died"),
        bad(
            "an error that begins a stream",
            sends([events_until_close(), "retry: 9\n\ndata: ", FAILURE, "\n\n"].concat()),
            "the engine died",
        ),
        cut("cut, though its length was told", broken_off("HTTP/1.1 200 OK\r\ncontent-length: 900", half)),
        cut(
            "cut within a chunk",
            broken_off("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked", &format!("ff\r\n{half}")),
        ),
        cut("cut within a chunk's size", broken_off("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked", "f")),
        cut("cut before the last chunk", broken_off("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked", &chunk(GOOD))),
        cut("no chunk at all", broken_off("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked", "zz\r\n{}\r\n")),
        cut("cut, and nobody knew the length", broken_off("HTTP/1.0 200 OK", half)),
        cut("a stream without an event", sends([events_in_chunks(), "0\r\n\r\n"].concat())),
        key_refused("401", "401 Unauthorized"),
        key_refused("403", "403 Forbidden"),
    ]
}

const FAILURE: &str = r#"{"error":{"message":"the engine died","type":"InternalServerError","code":500}}"#;

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// Reads, sends this, and nothing more.
fn hangs(begin: String) -> Vec<Step> {
    [sends(begin), vec![Step::UntilClosed]].concat()
}

/// What nobody asked for: no request of ours has `accept-encoding`.
fn zipped(kind: &str) -> Vec<u8> {
    // An empty line stands within, as it may in anything that is compressed.
    let body = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03\n\n\x00\x01\n\n";
    let length = body.len();
    let head = format!("HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ncontent-encoding: gzip\r\ncontent-length: {length}");
    [head.as_bytes(), b"\r\n\r\n", body].concat()
}

fn moved(status: &str) -> Vec<Step> {
    sends(answer(status, &format!("location: http://127.0.0.1:1/{SECRET}\r\n"), &format!("<a>{SECRET}</a>")))
}

#[tokio::test(flavor = "multi_thread")]
async fn every_misdeed_before_the_first_byte_is_a_status_and_an_error_and_asked_for_once() {
    for case in cases() {
        for stream in [false, true] {
            let (house, raw) = before(ONCE, case.steps.clone()).await;
            let told = ask(&house, stream).await;
            let name = case.name;
            assert_eq!(told.status, case.status, "{name}: {told:?}");
            let error = told.error();
            assert_eq!((&error["type"], &error["code"]), (&json!(case.kind), &case.code), "{name}");
            assert!(error["message"].as_str().unwrap().contains(case.says), "{name}: {error}");
            let reads = case.steps.iter().filter(|step| matches!(step, Step::Read)).count();
            assert_eq!(raw.requests().len(), reads, "{name}");
            if case.steps.iter().any(|step| matches!(step, Step::UntilClosed)) {
                closes(&raw).await;
            }
        }
    }
}

#[tokio::test]
async fn nobody_there_is_503_with_a_wait_and_no_address() {
    let nobody = Raw::start_after(Duration::from_secs(3600), vec![vec![]]).await; // its port is bound, and refuses
    let is_no_start = "health = { start_timeout_s = 0.000000001 }"; // or it would be a model that loads
    let house = house(&format!("{ONCE}{is_no_start}"), &[&nobody]);
    for stream in [false, true] {
        let told = ask(&house, stream).await;
        assert_eq!((told.status, told.retry_after), (503, Some(1)));
        let error = told.error();
        assert_eq!(
            (&error["type"], &error["code"]),
            (&json!("service_unavailable_error"), &json!("model_unavailable"))
        );
        assert_eq!(error["message"], "the upstream refuses connections: is it running?");
    }
}

/// What an upstream says of its own failure is for the one who asked; it may hold his question.
#[tokio::test]
async fn what_an_upstream_says_of_one_question_is_told_to_nobody_else_and_names_no_machine() {
    let words = "CUDA error while reading 'my diary' on 10.0.0.7:8000";
    let body = json!({"error": {"message": words, "type": "InternalServerError", "code": 500}}).to_string();
    let (house, _raw) = before(ONCE, sends(answer("500 Internal Server Error", JSON, &body))).await;
    let error = ask(&house, false).await.error();
    assert_eq!(error["message"], "CUDA error while reading 'my diary' on [address]");
    for path in ["/ready", "/v1/models", "/metrics"] {
        let shown = http::client().get(house.url() + path).send().await.unwrap().text().await.unwrap();
        assert!(!shown.contains("diary") && !shown.contains("10.0.0.7"), "{path}: {shown}");
        assert!(path == "/metrics" || shown.contains("the upstream failed to answer"), "{path}: {shown}");
    }
}

/// An account without money, a proxy without its password and a line that is too slow are not the client's mistakes.
#[tokio::test]
async fn what_is_between_the_house_and_its_upstream_is_no_mistake_of_the_clients() {
    for (status, wanted, code) in [
        ("402 Payment Required", 429, "insufficient_quota"),
        ("407 Proxy Authentication Required", 502, "proxy_refused"),
        ("408 Request Timeout", 504, "deadline_exceeded"),
        ("409 Conflict", 503, "queue_full"),
    ] {
        let (house, _raw) = before(ONCE, sends(answer(status, JSON, r#"{"error":{"message":"no"}}"#))).await;
        let told = ask(&house, false).await;
        assert_eq!((told.status, &told.error()["code"]), (wanted, &json!(code)), "{status}: {told:?}");
    }
}

/// What an upstream says of the question is the client's to read, and its status the client's to act on.
#[tokio::test]
async fn what_the_upstream_says_of_the_question_is_passed_on() {
    for (status, body, wanted, code) in [
        (
            "400 Bad Request",
            r#"{"error":{"message":"no","type":"BadRequestError","param":"top_p","code":400}}"#,
            400,
            Value::Null,
        ),
        (
            "404 Not Found",
            r#"{"error":{"message":"no","type":"NotFoundError","param":"model","code":404}}"#,
            404,
            json!("model_not_found"),
        ),
        (
            "422 Unprocessable Entity",
            r#"{"error":{"message":"no","type":"x","param":null,"code":422}}"#,
            400,
            Value::Null,
        ),
    ] {
        let (house, raw) = before("", sends(answer(status, JSON, body))).await;
        let told = ask(&house, false).await;
        let error = told.error();
        assert_eq!((told.status, &error["message"], &error["code"]), (wanted, &json!("no"), &code), "{status}");
        assert_eq!(raw.requests().len(), 1, "it would say the same again");
    }
}
