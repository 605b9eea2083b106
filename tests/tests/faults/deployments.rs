//! Two upstreams of one model, one of which dies.
use std::time::{Duration, Instant};

use llm_tests::raw::{Raw, Step, answer, chunk, events_in_chunks};
use serde_json::json;

use super::kit::*;

async fn well() -> Raw {
    Raw::start(vec![vec![Step::Read, Step::Says("fine")]]).await
}

#[tokio::test]
async fn one_that_dies_before_its_first_byte_is_stood_in_for_by_the_other() {
    for dying in [vec![Step::Read, Step::Reset], vec![Step::Read], sends("HTTP/1.1 200 OK\r\n"), vec![]] {
        let (ill, well) = (Raw::start(vec![dying.clone()]).await, well().await);
        let house = house("retry = { wait_ms = 1 }", &[&ill, &well]);
        assert_eq!(ask(&house, false).await.text(), "fine", "{dying:?}");
        assert_eq!(ask(&house, true).await.stream(), ("fine".into(), None), "{dying:?}");
        assert_eq!(well.requests().len(), 2);
        assert!(ill.requests().len() <= 1, "one that has just failed is not asked first: {dying:?}");
    }
}

/// It is asked no more for as long as it wanted, and those who asked it are answered by the other, at once.
#[tokio::test]
async fn one_that_is_busy_is_stood_in_for_by_the_other() {
    for status in ["429 Too Many Requests", "503 Service Unavailable"] {
        let busy = Raw::start(vec![sends(answer(status, "connection: close\r\nretry-after: 60\r\n", "{}"))]).await;
        let well = well().await;
        let house = house("", &[&busy, &well]);
        let since = Instant::now();
        for _ in 0..3 {
            assert_eq!(ask(&house, false).await.text(), "fine", "{status}");
        }
        assert!(since.elapsed() < Duration::from_millis(400), "nobody waits where another is free");
        assert_eq!((busy.requests().len(), well.requests().len()), (1, 3), "{status}");
    }
}

/// What no second attempt at the same place would mend: a key that is refused, a model that is not there, or loads.
#[tokio::test]
async fn one_that_cannot_is_stood_in_for_by_the_other() {
    for (status, body) in [
        ("401 Unauthorized", r#"{"error":"Unauthorized"}"#),
        ("404 Not Found", r#"{"error":{"message":"no such model","code":404}}"#),
        ("503 Service Unavailable", r#"{"error":{"message":"Loading model","code":503}}"#),
        ("400 Bad Request\r\nx-should-retry: false", r#"{"error":{"message":"no","type":"x","code":500}}"#),
        ("500 Internal Server Error\r\nx-should-retry: false", r#"{"error":{"message":"no","code":500}}"#),
    ] {
        let ill = Raw::start(vec![sends(answer(status, "connection: close\r\n", body))]).await;
        let well = well().await;
        let house = house("", &[&ill, &well]);
        let told = ask(&house, false).await;
        if status.starts_with("400") {
            assert_eq!((told.status, ill.requests().len(), well.requests().len()), (400, 1, 0), "the caller's mistake");
        } else {
            assert_eq!(told.text(), "fine", "{status}");
            assert_eq!((ill.requests().len(), well.requests().len()), (1, 1), "{status}");
        }
    }
}

/// Nobody is sent on while all have said when to come back, and each caller is told the time that is left.
#[tokio::test]
async fn where_all_are_busy_their_word_is_passed_on_and_nothing_is_sent() {
    let busy = |wait: u32| {
        let headers = format!("connection: close\r\nretry-after: {wait}\r\n");
        sends(answer("429 Too Many Requests", &headers, r#"{"error":{"message":"slow down"}}"#))
    };
    let (one, other) = (Raw::start(vec![busy(60)]).await, Raw::start(vec![busy(30)]).await);
    let house = house("", &[&one, &other]);
    ask(&house, false).await;
    let told = [ask(&house, false).await, ask(&house, true).await];
    for told in &told {
        assert_eq!((told.status, &told.error()["code"]), (429, &json!("rate_limit_exceeded")));
        assert!((28..=30).contains(&told.retry_after.unwrap()), "{told:?}");
    }
    assert_eq!((one.requests().len(), other.requests().len()), (1, 1));
}

#[tokio::test]
async fn one_that_does_not_answer_in_time_is_stood_in_for_by_the_other() {
    let hanging = Raw::start(vec![vec![Step::Read, Step::UntilClosed]]).await;
    let well = well().await;
    let house = house("retry = { wait_ms = 1 }\ntimeout = { first_s = 0.2 }", &[&hanging, &well]);
    assert_eq!(ask(&house, false).await.text(), "fine");
    closes(&hanging).await;
}

/// What the client has read cannot be taken back: the error is its to see, and its next question goes to the other.
#[tokio::test]
async fn one_that_dies_in_mid_stream_is_told_and_the_next_question_goes_to_the_other() {
    let half = [events_in_chunks(), &chunk(HALF)].concat();
    let reset = vec![Step::Pause(Duration::from_millis(100)), Step::Reset];
    let ill = Raw::start(vec![[sends(half), reset].concat()]).await;
    let well = well().await;
    let house = house("retry = { wait_ms = 1 }", &[&ill, &well]);
    let (words, error) = ask(&house, true).await.stream();
    assert_eq!((words.as_str(), &error.expect("an error")["code"]), ("half", &json!("stream_truncated")));
    assert_eq!((ill.requests().len(), well.requests().len()), (1, 0));
    assert_eq!(ask(&house, true).await.stream(), ("fine".into(), None));
    assert_eq!((ill.requests().len(), well.requests().len()), (1, 1));
}

#[tokio::test]
async fn where_both_fail_the_client_is_told_the_last_failure_and_each_was_asked() {
    let failing =
        || sends(answer("500 Internal Server Error", "connection: close\r\n", r#"{"error":{"message":"no"}}"#));
    let (one, other) = (Raw::start(vec![failing()]).await, Raw::start(vec![failing()]).await);
    let house = house("retry = { max_retries = 1, wait_ms = 1 }", &[&one, &other]);
    let told = ask(&house, true).await;
    assert_eq!((told.status, &told.error()["message"]), (502, &json!("no")));
    assert_eq!((one.requests().len(), other.requests().len()), (1, 1));
}

/// A key that one refuses, another may take.
#[tokio::test]
async fn one_that_refuses_the_houses_key_is_never_the_clients_trouble() {
    let refusing = || sends(answer("401 Unauthorized", "connection: close\r\n", r#"{"error":"Unauthorized"}"#));
    let ill = Raw::start(vec![refusing()]).await;
    let house = house(ONCE, &[&ill]);
    for stream in [false, true] {
        let told = ask(&house, stream).await;
        assert_eq!((told.status, &told.error()["code"]), (502, &json!("upstream_key_refused")));
    }
}
