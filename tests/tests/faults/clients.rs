//! Clients that send what nobody can read, and clients that leave. (Those that leave streams are in load.rs, with how soon
//! their upstreams know.)
use std::time::Instant;

use llm_tests::raw::{Raw, Step, answer, chunk, events_in_chunks};

use super::kit::*;

/// Never asked, whatever comes.
async fn nobody() -> (llm_tests::house::House, Raw) {
    before(ONCE, vec![Step::Read, Step::Says("fine")]).await
}

#[tokio::test]
async fn json_that_is_nested_without_end_is_refused_in_no_time_and_goes_nowhere() {
    let (house, raw) = nobody().await;
    for open in ["[", "{\"a\":", "[{\"a\":"] {
        let deep = format!("{{\"model\":\"m\",\"messages\":{}", open.repeat((8 << 20) / open.len()));
        let since = Instant::now();
        let refused = told(&house, deep).await;
        assert!(since.elapsed() < SOON, "{open} took {:?}", since.elapsed());
        let error = refused.error();
        assert_eq!((refused.status, &error["code"]), (400, &"invalid_json".into()));
        assert!(error["message"].as_str().unwrap().contains("nested too deeply"), "{error}");
    }
    assert_eq!(raw.requests(), [""; 0]);
}

#[tokio::test]
async fn an_object_of_very_many_fields_is_refused_in_no_time_and_goes_nowhere() {
    let (house, raw) = nobody().await;
    let fields: String = (0..600_000).map(|i| format!(",\"a{i}\":1")).collect();
    let since = Instant::now();
    let refused = told(&house, format!("{{\"model\":\"m\"{fields}}}")).await;
    assert!(since.elapsed() < SOON, "it took {:?}", since.elapsed());
    let error = refused.error();
    assert_eq!((refused.status, &error["message"]), (400, &"the body has more than 256 top-level fields".into()));
    assert_eq!(raw.requests(), [""; 0]);
}

#[tokio::test]
async fn text_that_is_no_utf_8_is_refused_by_its_name() {
    let (house, raw) = nobody().await;
    for wrong in [&b"\xff"[..], b"\xc3", b"\xed\xa0\x80", b"\xf8\x88\x80\x80\x80", b"gr\xfc\xdfe"] {
        let body = [br#"{"model":"m","messages":[{"role":"user","content":""#, wrong, br#""}]}"#].concat();
        let refused = told(&house, body).await;
        let error = refused.error();
        assert_eq!(refused.status, 400, "{wrong:?}: {error}");
        assert!(error["message"].as_str().unwrap().contains("UTF-8"), "{wrong:?}: {error}");
    }
    assert_eq!(raw.requests(), [""; 0]);
}

/// We would read the one and the upstream the other: so a question could pass for another model's.
#[tokio::test]
async fn two_models_in_one_question_are_refused() {
    let (house, raw) = nobody().await;
    for (second, says) in [
        (r#""model":"x""#, "given twice"),
        (r#""model":"m""#, "given twice"),
        (r#""mod\u0065l":"x""#, "must not be written with escapes"),
    ] {
        let refused = told(&house, format!(r#"{{"model":"m",{second},"messages":[]}}"#)).await;
        let error = refused.error();
        assert_eq!(refused.status, 400, "{second}: {error}");
        assert!(error["message"].as_str().unwrap().contains(says), "{second}: {error}");
    }
    assert_eq!(raw.requests(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_the_line_is_never_asked_for() {
    let (house, raw) = before("queue = { limit = 1 }", vec![Step::Read, Step::UntilClosed]).await;
    let running = asking(&house, false).await;
    until("the upstream is asked", || raw.requests().len() == 1).await;
    for stream in [false, true] {
        let waiting = asking(&house, stream).await;
        until("it stands in line", || house.gateway.models()[0].waiting == 1).await;
        drop(waiting);
        until("it has left the line", || house.gateway.models()[0].waiting == 0).await;
    }
    drop(running);
    closes(&raw).await;
    until("the turn comes free", || house.gateway.models()[0].running == 0).await;
    assert_eq!(raw.requests().len(), 1, "nobody was asked for those who had left");
}

/// Before the head, within it, within a whole answer, before the first event, and in mid-stream.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_closes_the_upstreams_connection_and_gives_its_turn_back() {
    let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 900\r\n\r\n";
    for (stream, sent) in [
        (false, String::new()),
        (false, head[..20].to_owned()),
        (false, head.to_owned() + &GOOD[..40]),
        (true, String::new()),
        (true, events_in_chunks().to_owned()),
        (true, [events_in_chunks(), &chunk(": comment\n\n")].concat()),
        (true, [events_in_chunks(), &chunk(HALF)].concat()),
    ] {
        let steps = [sends(sent.clone()), vec![Step::UntilClosed]].concat();
        let (house, raw) = before("queue = { limit = 1 }", steps).await;
        let mut client = asking(&house, stream).await;
        until("the upstream is asked", || raw.requests().len() == 1).await;
        if sent.contains("half") {
            client.head().await.unwrap();
            client.chunk(&mut Vec::new()).await.unwrap();
        }
        drop(client);
        closes(&raw).await;
        until("the turn comes free", || house.gateway.models()[0].running == 0).await;
        assert_eq!(raw.requests().len(), 1, "{sent}");
    }
}

/// What a client left behind is nobody else's: the next one gets an answer of its own on a connection of its own.
#[tokio::test]
async fn whoever_comes_after_one_that_left_gets_an_answer_of_its_own() {
    let half = [sends(answer("200 OK", JSON, GOOD)[..60].to_vec()), vec![Step::UntilClosed]].concat();
    let raw = Raw::start(vec![half, vec![Step::Read, Step::Says("fine")]]).await;
    let house = house("queue = { limit = 1 }", &[&raw]);
    let leaving = asking(&house, false).await;
    until("the upstream is asked", || raw.requests().len() == 1).await;
    drop(leaving);
    assert_eq!(ask(&house, false).await.text(), "fine");
}
