//! Connections that are kept: what one answer leaves behind must be no part of the next.
use llm_tests::raw::{Raw, Step, answer, chunk, events_in_chunks};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::kit::*;

fn good() -> Vec<u8> {
    answer("200 OK", JSON, GOOD)
}

fn evil() -> Vec<u8> {
    answer("200 OK", JSON, &GOOD.replace("fine", "evil"))
}

/// A host may say that its answer is shorter than it is; what stands behind its end looks like the next answer.
#[tokio::test]
async fn bytes_behind_an_answer_are_no_part_of_the_next() {
    let in_chunks = [events_in_chunks(), &chunk(&[HALF, FINISH, DONE].concat()), "0\r\n\r\n"].concat();
    for (stream, first) in [(false, good()), (true, in_chunks.into_bytes())] {
        let poisoned = vec![Step::Read, Step::Send([first, evil()].concat()), Step::Read, Step::Send(evil())];
        let raw = Raw::start(vec![poisoned, sends(good())]).await;
        let house = house(ONCE, &[&raw]);
        assert_eq!(ask(&house, stream).await.status, 200);
        assert_eq!(ask(&house, false).await.text(), "fine");
        assert_eq!(raw.requests().len(), 2);
    }
}

/// The same where they come later, when the connection waits for its next question.
#[tokio::test]
async fn bytes_that_come_while_a_connection_is_idle_make_it_useless() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let settings = format!("[models.m]\nprovider = 'vllm'\nbase_url = '{url}'\nhealth = {{ canary = false }}");
    let house = llm_tests::house::House::of(&settings);
    let first = tokio::spawn(async move {
        let mut stream = next_question(&listener).await;
        stream.write_all(&good()).await.unwrap();
        (listener, stream)
    });
    assert_eq!(ask(&house, false).await.text(), "fine");
    let (listener, mut poisoned) = first.await.unwrap();
    poisoned.write_all(&evil()).await.unwrap(); // on one machine it is there when this returns
    let second = tokio::spawn(async move { next_question(&listener).await.write_all(&good()).await });
    assert_eq!(ask(&house, false).await.text(), "fine");
    second.await.unwrap().unwrap();
}

/// The next connection that asks something; those that only look at the list of models are hung up on.
async fn next_question(listener: &TcpListener) -> TcpStream {
    loop {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = vec![0; 4096]; // a small question comes in one piece
        let length = stream.read(&mut request).await.unwrap();
        if request[..length].starts_with(b"POST") {
            return stream;
        }
    }
}

/// It says nothing of closing, and closes: nobody is asked twice for that. (One that closes as the next question is on its
/// way is in connection.rs.)
#[tokio::test]
async fn a_connection_that_was_closed_while_idle_costs_no_second_question() {
    let raw = Raw::start(vec![sends(good())]).await;
    let house = house(ONCE, &[&raw]);
    for asked in 1..=5 {
        assert_eq!(ask(&house, false).await.text(), "fine");
        assert_eq!(raw.requests().len(), asked);
    }
}

#[tokio::test]
async fn an_answer_of_http_1_0_ends_with_its_connection() {
    let old = |head: &str, body: &str| sends(format!("HTTP/1.0 200 OK\r\n{head}\r\n{body}"));
    let told_length = format!("content-length: {}\r\n", GOOD.len());
    let keeps = format!("{told_length}connection: keep-alive\r\n");
    for head in ["", "connection: close\r\n", &told_length, &keeps] {
        let (house, raw) = before(ONCE, old(head, GOOD)).await;
        for asked in 1..=2 {
            assert_eq!(ask(&house, false).await.text(), "fine", "{head}");
            assert_eq!(raw.requests().len(), asked, "{head}");
        }
    }
    let (house, _raw) = before(ONCE, old("content-type: text/event-stream\r\n", &[HALF, FINISH, DONE].concat())).await;
    assert_eq!(ask(&house, true).await.stream(), ("half".into(), None));
}

#[tokio::test]
async fn provisional_answers_are_waited_out() {
    let early = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </x>\r\ncontent-length: 5\r\n\r\n";
    let both = vec![Step::Read, Step::Send([early.as_bytes(), &good()].concat())];
    let apart = vec![Step::Read, Step::Send(early.into()), Step::Trickle(good())];
    for steps in [both, apart] {
        let (house, raw) = before(ONCE, steps).await;
        assert_eq!(ask(&house, false).await.text(), "fine");
        assert_eq!(raw.requests().len(), 1);
    }
}

/// A host may refuse a long question before it has read it: its words count, and the connection is not used again.
#[tokio::test]
async fn a_refusal_before_the_question_was_read_is_a_refusal() {
    let refusal = answer("413 Payload Too Large", "connection: close\r\n", r#"{"error":{"message":"too long"}}"#);
    let (house, _raw) = before(ONCE, vec![Step::Send(refusal), Step::UntilClosed]).await;
    let mut body = question(false);
    body["messages"][0]["content"] = "x".repeat(20 << 20).into();
    let refused = told(&house, body.to_string()).await;
    assert_eq!((refused.status, &refused.error()["message"]), (400, &"too long".into()));
}
