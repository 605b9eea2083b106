//! What fails when the client has read half of it is told in the stream: a finish or an error, and then one last word.
use std::time::Duration;

use llm_tests::raw::{Step, chunk, events_in_chunks, events_until_close};
use serde_json::{Value, json};

use super::kit::*;

/// These events in one chunk each; no chunk ends them.
fn chunks(events: &[&str]) -> String {
    events_in_chunks().to_owned() + &events.iter().map(|event| chunk(event)).collect::<String>()
}

/// All of it, until the connection closes.
fn plain(events: &[&str]) -> Vec<Step> {
    sends([&[events_until_close()], events].concat().concat())
}

/// Ways to break off behind the first half.
fn broken() -> Vec<(&'static str, Vec<Step>)> {
    let then = |rest: &str| sends(chunks(&[HALF]) + rest);
    // A reset takes back what was not read yet.
    let reset = [Step::Pause(Duration::from_millis(100)), Step::Reset];
    vec![
        ("closed without a finish", plain(&[HALF])),
        ("ended without a finish", then("0\r\n\r\n")),
        ("cut within an event", plain(&[HALF, &FINISH[..30]])),
        ("cut within a chunk", then(&format!("ff\r\n{}", &FINISH[..30]))),
        ("cut within a chunk's size", then("f")),
        ("cut behind a chunk's size", then("ff\r\n")),
        ("a chunk longer than its size", then("2\r\n: x\r\n")),
        ("a size that is no number", then("zz\r\n")),
        ("reset", [sends(chunks(&[HALF])), reset.into()].concat()),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_breaks_off_keeps_what_came_and_ends_with_an_error() {
    for (name, steps) in broken() {
        let (house, raw) = before(ONCE, steps).await;
        let told = ask(&house, true).await;
        assert_eq!(told.status, 200, "{name}: {told:?}");
        let (words, error) = told.stream();
        let error = error.unwrap_or_else(|| panic!("{name}: no error"));
        assert_eq!((words.as_str(), &error["code"]), ("half", &json!("stream_truncated")), "{name}: {error}");
        assert_eq!(error["type"], "server_error", "{name}");
        assert_eq!(raw.requests().len(), 1, "{name}: nothing is tried again that was begun");
        until("the turn comes free", || house.gateway.models()[0].running == 0).await;
    }
}

#[tokio::test]
async fn a_stream_that_hangs_is_given_up_and_its_connection_closed() {
    for half in [chunks(&[HALF]), chunks(&[HALF]) + "ff\r\n", chunks(&[HALF, &FINISH[..30]])] {
        let (house, raw) = before(ONCE, [sends(half), vec![Step::UntilClosed]].concat()).await;
        let (words, error) = ask(&house, true).await.stream();
        let error = error.expect("an error");
        assert_eq!((words.as_str(), &error["type"]), ("half", &json!("timeout_error")));
        assert_eq!(error["message"], "the answer stopped in the middle");
        closes(&raw).await;
    }
}

/// A finish is a finish: what hangs behind it keeps nothing back but the last word.
#[tokio::test]
async fn a_stream_that_hangs_behind_its_finish_is_an_answer() {
    for end in [vec![HALF, FINISH], vec![HALF, FINISH, DONE]] {
        let (house, raw) = before(ONCE, [sends(chunks(&end)), vec![Step::UntilClosed]].concat()).await;
        assert_eq!(ask(&house, true).await.stream(), ("half".into(), None));
        closes(&raw).await;
        until("the turn comes free", || house.gateway.models()[0].running == 0).await;
    }
}

/// Two answers to one question have two ends.
#[tokio::test]
async fn a_stream_of_several_answers_has_ended_when_all_of_them_have() {
    let second = FINISH.replace("\"index\":0", "\"index\":1");
    for (events, is_whole) in [
        (vec![HALF, FINISH], false),
        (vec![HALF, FINISH, FINISH], false),
        (vec![HALF, FINISH, &second], true),
        (vec![HALF, FINISH, DONE], true),
    ] {
        let (house, _raw) = before(ONCE, plain(&events)).await;
        let mut body = question(true);
        body["n"] = json!(2);
        let told = told(&house, body.to_string()).await;
        assert_eq!(!told.body.contains("stream_truncated"), is_whole, "{told:?}");
        assert!(told.body.ends_with(DONE), "{told:?}");
    }
}

/// Whoever sends an event now and then is alive, however long it takes.
#[tokio::test]
async fn a_slow_stream_is_none_that_hangs() {
    let pause = Step::Pause(Duration::from_millis(300));
    let steps = [sends(chunks(&[HALF])), vec![pause.clone(), Step::Send(chunk(HALF).into()), pause]].concat();
    let end = Step::Send((chunk(FINISH) + "0\r\n\r\n").into());
    let (house, _raw) = before(ONCE, [steps, vec![end]].concat()).await;
    assert_eq!(ask(&house, true).await.stream(), ("halfhalf".into(), None));
}

#[tokio::test]
async fn a_failure_in_mid_stream_is_told_in_the_upstreams_words_and_nothing_behind_it() {
    for (kind, wanted, code) in [
        ("InternalServerError", "server_error", Value::Null),
        ("rate_limit_error", "rate_limit_error", json!("rate_limit_exceeded")),
        // It is this house's key that is refused: the client's own was taken.
        ("authentication_error", "server_error", json!("upstream_key_refused")),
    ] {
        let failure = format!("data: {}\n\n", json!({"error": {"message": "the engine died", "type": kind}}));
        let (house, _raw) = before(ONCE, plain(&[HALF, &failure, HALF, FINISH, DONE])).await;
        let (words, error) = ask(&house, true).await.stream();
        let error = error.expect("an error");
        assert_eq!((words.as_str(), &error["type"], &error["code"]), ("half", &json!(wanted), &code));
    }
}

/// Untidy, and yet an answer: each of these is one `half` and a finish.
#[tokio::test]
async fn what_is_merely_untidy_is_an_answer_with_one_last_word() {
    let crlf = [HALF, FINISH, DONE].concat().replace('\n', "\r\n");
    let cr = [HALF, FINISH, DONE].concat().replace('\n', "\r");
    let marked = format!("\u{feff}{HALF}");
    for (name, events) in [
        ("no last word", vec![HALF, FINISH]),
        ("no empty line at the end", vec![HALF, FINISH, DONE.trim_end()]),
        ("two last words", vec![HALF, FINISH, DONE, DONE]),
        ("words behind the last", vec![HALF, FINISH, DONE, HALF, FINISH]),
        ("an error behind the last word", vec![HALF, FINISH, DONE, "data: {\"error\":{\"message\":\"late\"}}\n\n"]),
        ("lines without a colon", vec!["data\n\n", HALF, "nonsense\n\n", FINISH, DONE]),
        ("other fields", vec!["id: 1\nretry: 5\n\n", "event: ping\n\n", HALF, FINISH, DONE]),
        ("comments", vec![": a\n\n", HALF, ": b\n\n", FINISH, DONE]),
        ("no space behind the colon", vec![&HALF[..5], &HALF[6..], FINISH, DONE]),
        ("a byte order mark", vec![&marked, FINISH, DONE]),
        ("CRLF", vec![&crlf]),
        ("CR", vec![&cr]),
    ] {
        for steps in [plain(&events), sends(chunks(&events) + "0\r\n\r\n")] {
            let (house, raw) = before(ONCE, steps).await;
            let (words, error) = ask(&house, true).await.stream();
            assert_eq!((words.as_str(), error), ("half", None), "{name}");
            assert_eq!(raw.requests().len(), 1, "{name}");
        }
    }
}

/// What no client could see is no beginning: the call may still be tried elsewhere, and its failure is a status.
#[tokio::test]
async fn events_without_data_are_no_beginning() {
    for before_it in ["event: ping\n\n", "id: 1\n\n", "retry: 5\n\n", "nonsense\n\n", ": comment\n\n"] {
        let failing = plain(&[before_it, "data: {\"error\":{\"message\":\"the engine died\",\"code\":500}}\n\n"]);
        let (house, _raw) = before(ONCE, failing).await;
        assert_eq!(ask(&house, true).await.status, 502, "{before_it:?}");
    }
}

/// An event is not parsed on its way: what is no JSON is the client's to notice, and the stream's end is right all the same.
#[tokio::test]
async fn an_event_that_is_no_json_is_passed_on_as_it_came() {
    let broken = "data: {\"choices\":[{\"delta\":{\"content\":\"ha\n\n";
    let (house, _raw) = before(ONCE, plain(&[broken, HALF, FINISH, DONE])).await;
    let told = ask(&house, true).await;
    assert_eq!(told.body, [broken, HALF, FINISH, DONE].concat());
    let (house, _raw) = before(ONCE, plain(&[HALF, broken])).await;
    assert_eq!(ask(&house, true).await.stream().1.expect("an error")["code"], "stream_truncated");
}

/// Where a whole answer was asked for, nothing of a broken one is shown.
#[tokio::test]
async fn a_stream_where_a_whole_answer_was_asked_for_is_put_together_or_refused() {
    let (house, _raw) = before(ONCE, plain(&[HALF, FINISH, DONE])).await;
    assert_eq!(ask(&house, false).await.text(), "half");
    for (name, steps) in broken() {
        let (house, _raw) = before(ONCE, steps).await;
        let told = ask(&house, false).await;
        assert_eq!((told.status, &told.error()["code"]), (502, &json!("stream_truncated")), "{name}");
    }
}
