//! Time: answers that come slowly, and the waits that upstreams ask for.
use std::time::{Duration, Instant, SystemTime};

use futures_util::future::join_all;
use llm_tests::raw::{Raw, answer};

use super::kit::*;
use super::refusals::drip;

/// One retry, and no longer wait than a second.
const SHORTLY: &str = "retry = { max_retries = 1, wait_ms = 1, longest_wait_ms = 1000 }";

#[tokio::test]
async fn an_answer_that_drips_is_an_answer_if_it_is_in_time() {
    let whole = answer("200 OK", JSON, GOOD);
    let (house, _raw) = before("timeout = { first_s = 10 }", drip(&whole, Duration::from_millis(1))).await;
    assert_eq!(ask(&house, false).await.text(), "fine");
}

/// A refusal: its status and what it says of waiting; and what comes of it where no wait above a second is waited for.
struct Wait {
    status: &'static str,
    asks_for: String,
    asked: usize,
    told: (u16, Option<u64>),
}

fn waits() -> Vec<Wait> {
    let wait = |status, asks_for: &str, asked, told| Wait { status, asks_for: asks_for.into(), asked, told };
    let date = |ahead: i64| {
        let then = SystemTime::now() + Duration::from_secs(3_600) - Duration::from_secs((3_600 - ahead) as u64);
        httpdate::fmt_http_date(then)
    };
    let mut all = Vec::new();
    for (status, told, usual) in [
        ("429 Too Many Requests", 429, Some(1)),
        ("503 Service Unavailable", 503, Some(1)),
        ("500 Internal Server Error", 502, None), // nobody asked for a wait, and none would help
    ] {
        all.extend([
            wait(status, "", 2, (told, usual)),
            wait(status, "7", 1, (told, Some(7))),
            wait(status, "1.5", 1, (told, Some(2))),
            wait(status, &date(60), 1, (told, Some(60))),
            wait(status, "99999999", 1, (told, Some(86_400))), // nobody is sent away for more than a day
            wait(status, "99999999999999999999999999", 1, (told, Some(86_400))),
        ]);
        // What is no time asks for none.
        all.extend(["soon", "-5", "nan", "1e3x"].map(|nonsense| wait(status, nonsense, 2, (told, usual))));
    }
    all.push(wait("429 Too Many Requests", "0", 2, (429, Some(1))));
    all.push(wait("429 Too Many Requests", &date(-600), 2, (429, Some(1))));
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wait_that_is_asked_for_is_passed_on_where_it_is_too_long_to_be_waited_for() {
    join_all(waits().into_iter().map(refused)).await;
}

async fn refused(Wait { status, asks_for, asked, told: (wanted, wait) }: Wait) {
    let header = if asks_for.is_empty() { String::new() } else { format!("retry-after: {asks_for}\r\n") };
    let refusal = answer(status, &["connection: close\r\n", &header].concat(), r#"{"error":{"message":"no"}}"#);
    let (house, raw) = before(SHORTLY, sends(refusal)).await;
    let told = ask(&house, false).await;
    assert_eq!((told.status, raw.requests().len()), (wanted, asked), "{status}, {asks_for:?}: {told:?}");
    // A date is told in whole seconds, and some of them may have gone by.
    let is_wait = told.retry_after == wait || asks_for.ends_with("GMT") && told.retry_after >= wait.map(|s| s - 3);
    assert!(is_wait, "{status}, {asks_for:?}: {:?} and not {wait:?}", told.retry_after);
    assert_eq!(told.error()["message"], "no");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wait_that_is_short_enough_is_waited_for() {
    for status in ["429 Too Many Requests", "503 Service Unavailable", "500 Internal Server Error"] {
        let busy = sends(answer(status, "connection: close\r\nretry-after: 1\r\n", "{}"));
        let raw = Raw::start(vec![busy, sends(answer("200 OK", JSON, GOOD))]).await;
        let house = house(SHORTLY, &[&raw]);
        let since = Instant::now();
        assert_eq!(ask(&house, false).await.text(), "fine", "{status}");
        assert!(since.elapsed() >= Duration::from_secs(1), "{status}: {:?}", since.elapsed());
        assert_eq!(raw.requests().len(), 2, "{status}");
    }
}
