//! Kept answers over HTTP: what the client is told, what the upstream sees, what is counted.
use std::time::Duration;

use llm_tests::house::House;
use llm_tests::http;
use llm_tests::upstream::Upstream;
use reqwest::{Response, StatusCode};

const PATIENCE: Duration = Duration::from_secs(30);

async fn house(more: &str) -> (House, Upstream) {
    let upstream = Upstream::start().await.unwrap();
    let house = House::of(&format!(
        "{more}\n[models.m]\nprovider = 'vllm'\nbase_url = '{}'\nhealth = {{ canary = false }}\ncache = {{ size_mb = 4 }}",
        upstream.url()
    ));
    (house, upstream)
}

fn body(extra: &str) -> String {
    format!(r#"{{"model":"m","messages":[{{"role":"user","content":"?"}}]{extra}}}"#)
}

async fn ask(house: &House, body: String, caching: &str) -> Response {
    let request = http::client().post(format!("{}/v1/chat/completions", house.url()));
    let answer = request.header("cache-control", caching).body(body).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    answer
}

fn told(answer: &Response) -> (Option<&str>, bool) {
    let headers = answer.headers();
    (headers.get("x-cache").map(|word| word.to_str().unwrap()), headers.contains_key("age"))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_cannot_be_another_is_given_again_whole_and_as_a_stream() {
    let (house, upstream) = house("").await;
    for stream in ["", r#","stream":true"#] {
        let question = || body(&format!(r#","temperature":0{stream}"#));
        let before = upstream.seen().now().arrived;
        let first = ask(&house, question(), "").await;
        assert_eq!(told(&first), (Some("MISS"), false));
        let first = first.bytes().await.unwrap();
        let again = ask(&house, question(), "").await;
        assert_eq!(told(&again), (Some("HIT"), true));
        assert_eq!((again.bytes().await.unwrap(), upstream.seen().now().arrived - before), (first, 1));
        assert_eq!(told(&ask(&house, question(), "no-cache").await), (Some("MISS"), false));
        assert_eq!(told(&ask(&house, question(), "no-store").await), (None, false));
        assert_eq!(upstream.seen().now().arrived - before, 3);
    }
    for _ in 0..2 {
        assert_eq!(told(&ask(&house, body(""), "").await), (None, false), "it may be answered otherwise");
    }
    let metrics = http::client().get(format!("{}/metrics", house.url())).send().await.unwrap().text().await.unwrap();
    let counted = |line: &str| assert!(metrics.contains(line), "{line}\n{metrics}");
    counted("llm_cache_requests_total{model=\"m\",result=\"hit\"} 2");
    counted("llm_cache_requests_total{model=\"m\",result=\"miss\"} 4");
}

#[tokio::test(flavor = "multi_thread")]
async fn many_who_ask_the_same_at_once_cost_the_upstream_one_answer() {
    let (house, upstream) = house("").await;
    let question = || body(r#","temperature":0,"user":"first_ms=500""#);
    let asked = futures_util::future::join_all((0..20).map(|_| async {
        let answer = ask(&house, question(), "").await;
        (told(&answer).0 == Some("HIT"), answer.bytes().await.unwrap())
    }));
    let answers = tokio::time::timeout(PATIENCE, asked).await.expect("all are answered");
    assert!(answers.iter().all(|(_, bytes)| *bytes == answers[0].1));
    assert_eq!(answers.iter().filter(|(is_hit, _)| *is_hit).count(), 19);
    assert_eq!(upstream.seen().now().arrived, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_asked_first_may_leave_and_the_others_are_answered() {
    let (house, upstream) = house("").await;
    let question = || body(r#","temperature":0,"user":"first_ms=1000""#);
    let first = {
        let request = http::client().post(format!("{}/v1/chat/completions", house.url())).body(question());
        tokio::spawn(request.send())
    };
    upstream.seen().until(PATIENCE, |tally| tally.open == 1).await.expect("it is asked");
    let second =
        tokio::spawn(http::client().post(format!("{}/v1/chat/completions", house.url())).body(question()).send());
    first.abort();
    upstream.seen().until(PATIENCE, |tally| tally.left == 1).await.expect("the first has left");
    let answer = tokio::time::timeout(PATIENCE, second).await.expect("an answer").unwrap().unwrap();
    assert_eq!((answer.status(), told(&answer)), (StatusCode::OK, (Some("MISS"), false)));
    assert_eq!(upstream.seen().now().arrived, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_kept_costs_no_quota_and_a_reload_empties_it() {
    let (house, upstream) = house("[quota]\nrequests_per_minute = 2").await;
    let question = || body(r#","temperature":0"#);
    for _ in 0..5 {
        ask(&house, question(), "").await.bytes().await.unwrap();
    }
    assert_eq!(upstream.seen().now().arrived, 1);
    let config = format!(
        "[models.m]\nprovider = 'vllm'\nbase_url = '{}'\nhealth = {{ canary = false }}\ncache = {{ size_mb = 4 }}",
        upstream.url()
    );
    house.gateway.reload(&llm_core::Config::from_toml(&config).unwrap()).unwrap();
    assert_eq!(told(&ask(&house, question(), "").await), (Some("MISS"), false));
}
