//! What clients do to connections: pieces, pipelines, other routes between questions, forms that two readers could
//! understand in two ways, heads and bodies that never end, readers that stop reading.
use std::time::{Duration, Instant};

use llm_tests::factor;
use llm_tests::house::House;
use llm_tests::upstream::Upstream;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const PATIENCE: Duration = Duration::from_secs(20);

fn fake(server: &str) -> House {
    House::of(&format!("[server]\n{server}\n[models.m]\nprovider = 'fake'\nsays = 'one two'"))
}

fn body(extra: &str) -> String {
    format!(r#"{{"model":"m","messages":[{{"role":"user","content":"?"}}]{extra}}}"#)
}

fn question(headers: &str, body: &str) -> String {
    let length = body.len();
    format!("POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\n{headers}content-length: {length}\r\n\r\n{body}")
}

async fn open(house: &House) -> TcpStream {
    TcpStream::connect(house.address()).await.unwrap()
}

/// All that the server says until it closes the connection.
async fn rest(mut stream: TcpStream) -> String {
    let mut said = Vec::new();
    tokio::time::timeout(PATIENCE, stream.read_to_end(&mut said)).await.expect("the server closes").unwrap_or_default();
    String::from_utf8(said).unwrap()
}

/// One answer whose length is told.
async fn answer(stream: &mut TcpStream) -> String {
    let mut said = Vec::new();
    let read = async {
        loop {
            let text = String::from_utf8_lossy(&said);
            if let Some((head, body)) = text.split_once("\r\n\r\n") {
                let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).expect("a length");
                if body.len() >= length.parse().unwrap() {
                    return text.into_owned();
                }
            }
            assert!(stream.read_buf(&mut said).await.unwrap() > 0, "closed too early");
        }
    };
    tokio::time::timeout(PATIENCE, read).await.expect("an answer")
}

/// What a connection is told that asks this alone; to close one's own end would be to leave.
async fn said(house: &House, request: &str) -> String {
    let mut stream = open(house).await;
    stream.write_all(request.as_bytes()).await.unwrap();
    answer(&mut stream).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_may_come_in_any_pieces() {
    let (house, request) = (fake(""), question("X-Request-Id: mine-1\r\n", &body("")));
    let mut stream = open(&house).await;
    stream.set_nodelay(true).unwrap();
    for byte in request.bytes() {
        stream.write_all(&[byte]).await.unwrap();
        tokio::task::yield_now().await;
    }
    let whole = answer(&mut stream).await;
    assert!(whole.starts_with("HTTP/1.1 200 OK\r\n") && whole.contains("one two"), "{whole}");
    assert!(whole.contains("\r\nx-request-id: mine-1\r\n") && whole.contains("\r\ndate: "), "{whole}");
    for cut in [1, 30, request.len() / 2, request.len() - 1] {
        stream.write_all(&request.as_bytes()[..cut]).await.unwrap();
        stream.flush().await.unwrap();
        stream.write_all(&request.as_bytes()[cut..]).await.unwrap();
        assert!(answer(&mut stream).await.contains("one two"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn questions_that_come_at_once_are_answered_in_order_and_other_routes_between_them() {
    let house = fake("");
    let ids = ["a", "b", "c", "d"];
    let ask = |id: &str| question(&format!("x-request-id: {id}\r\n"), &body(""));
    let health = "GET /health HTTP/1.1\r\nhost: x\r\n\r\n";
    let last = question("x-request-id: d\r\nconnection: close\r\n", &body(""));
    let mut stream = open(&house).await;
    let all = [&ask("a"), &ask("b"), health, &ask("c"), health, &last].map(|s: &str| s.to_owned()).concat();
    stream.write_all(all.as_bytes()).await.unwrap();
    let said = rest(stream).await;
    let found: Vec<usize> = ids.iter().map(|id| said.find(&format!("x-request-id: {id}\r\n")).expect(id)).collect();
    assert!(found.is_sorted(), "{said}");
    assert_eq!((said.matches("HTTP/1.1 200 OK").count(), said.matches(r#"{"status":"ok"}"#).count()), (6, 2), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_rare_is_answered_as_well() {
    let (house, body) = (fake(""), body(""));
    let length = body.len();
    let post = "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nconnection: close\r\n";
    let chunked = format!("{post}transfer-encoding: chunked\r\n\r\n{length:x}\r\n{body}\r\n0\r\n\r\n");
    let old = format!("POST /v1/chat/completions HTTP/1.0\r\ncontent-length: {length}\r\n\r\n{body}");
    let query = question("connection: close\r\n", &body).replace("completions HTTP", "completions?api-version=1 HTTP");
    for (request, status) in [(&chunked, "HTTP/1.1 200"), (&old, "HTTP/1.0 200"), (&query, "HTTP/1.1 200")] {
        let mut stream = open(&house).await;
        stream.write_all(request.as_bytes()).await.unwrap();
        let said = rest(stream).await;
        assert!(said.starts_with(status) && said.contains("one two"), "{request}\n{said}");
    }
    // Whoever asks first whether the body is wanted is told so.
    let mut stream = open(&house).await;
    let expecting = format!("{post}expect: 100-continue\r\ncontent-length: {length}\r\n\r\n");
    stream.write_all(expecting.as_bytes()).await.unwrap();
    let mut go_on = [0; 25];
    stream.read_exact(&mut go_on).await.unwrap();
    assert_eq!(&go_on, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(body.as_bytes()).await.unwrap();
    assert!(rest(stream).await.contains("one two"));
}

#[tokio::test(flavor = "multi_thread")]
async fn forms_that_two_readers_could_understand_in_two_ways_are_refused_and_nothing_behind_them_is_read() {
    let upstream = Upstream::start().await.unwrap();
    let house = House::of(&format!(
        "[models.m]\nprovider = 'vllm'\nbase_url = '{}'\nhealth = {{ canary = false }}",
        upstream.url()
    ));
    let (inner, hidden) = (body(""), question("", &body("")));
    let length = inner.len();
    for headers in [
        format!("content-length: {length}\r\ncontent-length: {}\r\n", length + 1),
        format!("content-length: +{length}\r\n"),
        format!("content-length: {length}, {length}\r\n"),
        format!("content-length : {length}\r\n"),
        format!("content-length: {length}\r\ntransfer-encoding: chunked, identity\r\n"),
        format!("content-length: {length}\r\ntransfer-encoding: xchunked\r\n"),
        format!("content-length:\r\n {length}\r\n"),
        format!("content-length: {length}\r\nx: a\rb\r\n"),
    ] {
        let request = format!("POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\n{headers}\r\n{inner}{hidden}");
        let mut stream = open(&house).await;
        stream.write_all(request.as_bytes()).await.unwrap();
        let answer = rest(stream).await;
        assert!(answer.starts_with("HTTP/1.1 400") && answer.matches("HTTP/1.1").count() == 1, "{headers}\n{answer}");
        assert!(answer.contains("\r\nx-request-id: ") && answer.contains(r#""code":"bad_request""#), "{answer}");
    }
    assert_eq!(upstream.seen().now().arrived, 0, "none of it went on");
    // A chunked body goes before a length beside it (RFC 9112), and what stands behind it is a question of its own.
    let both = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n\
         {length:x}\r\n{inner}\r\n0\r\n\r\n"
    );
    let answer = said(&house, &both).await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.matches("HTTP/1.1 ").count() == 1, "{answer}");
    assert_eq!(upstream.seen().now().arrived, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_key_or_too_long_a_body_is_refused_before_the_body_is_read() {
    let house = fake("api_key = 'sk-1'\nmax_body = 1000");
    let refused = said(&house, &question("authorization: Bearer sk-2\r\n", &body(""))).await;
    assert!(refused.starts_with("HTTP/1.1 401") && refused.contains("wrong API key"), "{refused}");
    let mut stream = open(&house).await;
    let head = "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nx-api-key: sk-1\r\ncontent-length: 1000000\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    assert!(answer(&mut stream).await.starts_with("HTTP/1.1 413"));
    assert!(said(&house, &question("api-key: sk-1\r\n", &body(""))).await.contains("one two"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_that_never_ends_is_given_up_and_a_body_is_told_that_it_was() {
    let house = fake("header_timeout_s = 1\nbody_timeout_s = 1");
    let since = Instant::now();
    let mut slow = open(&house).await;
    slow.write_all(b"POST /v1/chat/completions HTTP/1.1\r\nhost").await.unwrap();
    assert_eq!(rest(slow).await, "");
    let idle = open(&house).await;
    assert_eq!(rest(idle).await, "");
    let mut half = open(&house).await;
    let request = question("", &body(""));
    half.write_all(&request.as_bytes()[..request.len() - 5]).await.unwrap();
    let refusal = rest(half).await;
    assert!(refusal.starts_with("HTTP/1.1 408") && refusal.contains("body_timeout"), "{refusal}");
    assert!(refusal.contains("\r\nconnection: close\r\n") && since.elapsed() < PATIENCE, "{refusal}");
    let endless = format!("POST /v1/chat/completions HTTP/1.1\r\nx: {}", "y".repeat(1 << 20));
    let mut stream = open(&house).await;
    let _ = stream.write_all(endless.as_bytes()).await; // it may be closed before all of it is written
    let told = rest(stream).await;
    assert!(told.starts_with("HTTP/1.1 431") && told.contains("headers_too_large"), "{told}");
}

/// The same question in a body of chunks, which goes to hyper.
fn chunked(body: &str) -> String {
    let length = body.len();
    let head = "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n";
    format!("{head}\r\n{length:x}\r\n{body}\r\n0\r\n\r\n")
}

async fn until_its_turn_is_free(house: &House) {
    house.until(|models| models[0].running == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_reads_nothing_is_given_up_and_its_upstream_with_it() {
    let upstream = Upstream::start().await.unwrap();
    let house = House::of(&format!(
        "[server]\nwrite_timeout_s = 1\n[models.m]\nprovider = 'vllm'\nbase_url = '{}'\nhealth = {{ canary = false }}",
        upstream.url()
    ));
    let endless = body(r#","stream":true,"user":"chunks=100000000""#);
    let ways = [question("", &endless), chunked(&endless), question("connection: close\r\n", &endless)];
    for (before, request) in ways.iter().cycle().take(ways.len() * factor()).enumerate() {
        let mut stream = open(&house).await;
        stream.write_all(request.as_bytes()).await.unwrap();
        upstream.seen().until(PATIENCE, |tally| tally.arrived == before + 1).await.expect("it is asked");
        upstream.seen().until(PATIENCE, |tally| tally.left == before + 1).await.expect("it is told that nobody reads");
        until_its_turn_is_free(&house).await;
        drop(stream);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_in_mid_stream_is_noticed_whichever_way_it_asked() {
    let upstream = Upstream::start().await.unwrap();
    let house = House::of(&format!(
        "[models.m]\nprovider = 'vllm'\nbase_url = '{}'\nhealth = {{ canary = false }}",
        upstream.url()
    ));
    let silent = body(r#","stream":true,"user":"chunks=9 hang_after=2""#);
    let ways = [question("", &silent), chunked(&silent), question("connection: close\r\n", &silent)];
    for (before, request) in ways.iter().cycle().take(ways.len() * factor()).enumerate() {
        let mut stream = open(&house).await;
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut said = Vec::new();
        while !String::from_utf8_lossy(&said).contains("data: ") {
            assert!(stream.read_buf(&mut said).await.unwrap() > 0, "closed too early");
        }
        drop(stream);
        upstream.seen().until(PATIENCE, |tally| tally.left == before + 1).await.expect("it is told");
        until_its_turn_is_free(&house).await;
    }
}

/// In the third phase, in mid-stream, they leave above.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_the_line_or_before_the_first_byte_is_noticed_whichever_way_it_asked() {
    let upstream = Upstream::start().await.unwrap();
    let house = House::of(&format!(
        "[models.m]\nprovider = 'vllm'\nbase_url = '{}'\nhealth = {{ canary = false }}\nqueue = {{ limit = 1 }}",
        upstream.url()
    ));
    for stream in ["", r#","stream":true"#] {
        let silent = body(&format!(r#"{stream},"user":"first_ms=60000""#));
        for request in [question("", &silent), chunked(&silent), question("connection: close\r\n", &silent)] {
            let before = upstream.seen().now();
            let (mut asking, mut waiting) = (open(&house).await, open(&house).await);
            asking.write_all(request.as_bytes()).await.unwrap();
            upstream.seen().until(PATIENCE, |tally| tally.open == 1).await.expect("it is asked");
            waiting.write_all(request.as_bytes()).await.unwrap();
            house.until(|models| models[0].waiting == 1).await;
            drop(waiting);
            house.until(|models| models[0].waiting == 0).await;
            drop(asking);
            upstream.seen().until(PATIENCE, |tally| tally.left == before.left + 1).await.expect("it is told");
            until_its_turn_is_free(&house).await;
            assert_eq!(upstream.seen().now().arrived, before.arrived + 1, "who leaves the line is never asked for");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn more_connections_than_there_may_be_are_closed_and_one_that_leaves_makes_room() {
    let house = fake("max_connections = 2");
    let (mut first, mut second) = (open(&house).await, open(&house).await);
    for stream in [&mut first, &mut second] {
        stream.write_all(question("", &body("")).as_bytes()).await.unwrap();
        assert!(answer(stream).await.contains("one two"));
    }
    assert_eq!(rest(open(&house).await).await, "");
    second.write_all(question("", &body("")).as_bytes()).await.unwrap();
    assert!(answer(&mut second).await.contains("one two"), "those that are open go on");
    drop(first);
    let since = Instant::now();
    loop {
        let mut next = open(&house).await;
        // It may be closed before it is written.
        let _ = next.write_all(question("connection: close\r\n", &body("")).as_bytes()).await;
        if rest(next).await.contains("one two") {
            break;
        }
        assert!(since.elapsed() < PATIENCE, "its place is still taken");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_connections_are_closed_when_the_server_stops_and_answers_end() {
    let upstream = Upstream::start().await.unwrap();
    let house = House::before(&upstream.url());
    let (mut idle, mut busy) = (open(&house).await, open(&house).await);
    idle.write_all(question("", &body("")).as_bytes()).await.unwrap();
    answer(&mut idle).await;
    let slow = body(r#","user":"first_ms=500""#);
    busy.write_all(question("", &slow).as_bytes()).await.unwrap();
    upstream.seen().until(PATIENCE, |tally| tally.open == 1).await.expect("it is asked");
    house.stop();
    assert_eq!(rest(idle).await, "");
    let last = rest(busy).await;
    assert!(last.starts_with("HTTP/1.1 200"), "{last}");
    house.wait();
}
