//! The exit codes, against servers that refuse, break off or are not there.
use llm_tests::raw::{Raw, answer, chunk, events_in_chunks, events_until_close};

use crate::program::Program;

const PIECE: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"half an answer\"}}]}\n\n";

/// Asks a server that answers with these bytes; the exit code, stdout and stderr.
async fn asked(bytes: Vec<u8>, arguments: &[&str]) -> (i32, String, String) {
    let raw = Raw::answering(bytes).await;
    let ran = Program::before(&raw.url()).run(arguments);
    (ran.code, ran.out, ran.err)
}

#[tokio::test(flavor = "multi_thread")]
async fn each_refusal_has_its_code_and_its_reason() {
    let refusals = [
        ("401 Unauthorized", r#"{"error":"no such key"}"#, 4),
        ("403 Forbidden", r#"{"error":{"message":"not yours"}}"#, 4),
        ("404 Not Found", r#"{"error":{"message":"The model `tiny` does not exist","param":"model"}}"#, 6),
        ("400 Bad Request", r#"{"error":{"message":"maximum context length is 8 tokens"}}"#, 7),
        ("400 Bad Request", r#"{"error":{"message":"temperature is wrong"}}"#, 2),
        ("429 Too Many Requests", r#"{"error":{"message":"slow down"}}"#, 8),
        ("503 Service Unavailable", r#"{"error":{"message":"the line is full"}}"#, 8),
        ("504 Gateway Timeout", r#"{"error":{"message":"too slow"}}"#, 8),
        ("500 Internal Server Error", r#"{"error":{"message":"it broke"}}"#, 1),
    ];
    for (status, body, code) in refusals {
        let refusal = answer(status, "content-type: application/json\r\n", body);
        let (got, out, err) = asked(refusal, &["why?"]).await;
        let reason = body.rsplit(':').next().unwrap().split('"').nth(1).unwrap();
        assert_eq!((got, out.as_str()), (code, ""), "{status}: {err}");
        assert!(err.starts_with("error: ") && (err.contains(reason) || err.contains("tiny")), "{status}: {err}");
        assert!(err.contains("asked: vllm at http://127.0.0.1:"), "{err}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_truncated_stream_is_never_a_success() {
    let half = [events_until_close(), PIECE].concat();
    let unchunked = [events_in_chunks(), &chunk(PIECE)].concat();
    let mid_event = [events_until_close(), PIECE, "data: {\"choices\":[{\"ind"].concat();
    let whole =
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 9000\r\n\r\n{\"choices\":[".to_owned();
    for (bytes, arguments, shown) in [
        (half, &["why?"][..], "half an answer\n"),
        (unchunked, &["why?"], "half an answer\n"),
        (mid_event, &["why?"], "half an answer\n"),
        (whole, &["--no-stream", "why?"], ""),
    ] {
        let (code, out, err) = asked(bytes.into_bytes(), arguments).await;
        assert_eq!((code, out.as_str()), (5, shown), "{err}");
        assert!(err.contains("broke off"), "{err}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_inside_a_stream_is_told_and_leaves_the_answer_incomplete() {
    let failure = "data: {\"error\":{\"message\":\"the GPU fell off\",\"code\":500}}\n\n";
    let (code, out, err) = asked([events_until_close(), PIECE, failure].concat().into_bytes(), &["why?"]).await;
    assert_eq!((code, out.as_str()), (5, "half an answer\n"));
    assert!(err.contains("the GPU fell off"), "{err}");
}

#[test]
fn nobody_there_is_told_apart_from_all_else() {
    let ran = Program::before("http://127.0.0.1:1").run(&["why?"]);
    assert_eq!((ran.code, ran.out.as_str()), (3, ""));
    assert!(ran.err.contains("http://127.0.0.1:1") && ran.err.contains("hint: "), "{}", ran.err);
}

#[test]
fn an_answer_cut_by_its_limit_is_a_success_with_a_warning_unless_told_otherwise() {
    let program = Program::fake();
    let ran = program.run(&["--max-tokens", "1", "one two"]);
    assert_eq!((ran.code, ran.out.as_str()), (0, "one \n"));
    assert!(ran.err.starts_with("warning: the answer was cut"), "{}", ran.err);
    assert_eq!(program.run(&["--max-tokens", "1", "--fail-on-length", "one two"]).code, 5);
}

#[test]
fn wrong_usage_is_two() {
    let program = Program::fake();
    let url = ["--url", "http://127.0.0.1:1"];
    for arguments in [
        &["--nonsense"][..],
        &[],
        &["--temp", "1", "models"],
        &["embed"],
        &["--url", "ftp://x", "hi"],
        &["-k", "key", "hi"],
        &[url[0], url[1], "models", "--config", "llm.toml"],
    ] {
        let ran = program.run(arguments);
        assert_eq!((ran.code, ran.out.as_str()), (2, ""), "{arguments:?}: {}", ran.err);
    }
    assert_eq!(Program::new().var("LLM_CONFIG", "/no/such.toml").run(&["hi"]).code, 2);
}

#[test]
fn a_model_that_is_not_there_is_six_and_the_names_are_told() {
    let ran = Program::fake().run(&["-m", "gpt-9", "hi"]);
    assert_eq!(ran.code, 6);
    assert!(ran.err.contains("gpt-9") && ran.err.contains("fake"), "{}", ran.err);
}

#[cfg(feature = "engine")]
#[test]
fn without_any_model_the_command_that_brings_one_is_told() {
    for arguments in [&["hi"][..], &["tokens", "hi"], &["embed", "hi"]] {
        let ran = Program::new().run(arguments);
        assert_eq!((ran.code, ran.out.as_str()), (6, ""), "{}", ran.err);
        assert!(ran.err.contains("`llm models fetch`"), "{}", ran.err);
    }
}
