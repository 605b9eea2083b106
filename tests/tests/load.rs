//! Many clients at once, clients that leave, and clients that send nonsense: the gateway before a stand-in for vLLM.
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join;
use llm_tests::factor;
use llm_tests::house::House;
use llm_tests::load::{Clients, Connection, Plan, Question, post};
use llm_tests::upstream::Upstream;
use serde_json::{Value, json};

/// Longer than anything takes on the slowest machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// How soon an upstream must know that its client has left.
const AT_ONCE: Duration = Duration::from_millis(100);

fn stream(script: &str) -> Vec<u8> {
    let messages = json!([{"role": "user", "content": "Say much."}]);
    let body = json!({"model": "tiny", "messages": messages, "stream": true, "user": script});
    post("/v1/chat/completions", None, body.to_string().as_bytes())
}

/// Clients, their connections' other ends, and the same again upstream.
fn room_for(connections: u64) {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    assert!(
        most > 4 * connections + 200,
        "this test needs {} files open, and {most} are allowed",
        4 * connections + 200
    );
    setrlimit(Resource::RLIMIT_NOFILE, most, most).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_streams_at_once_finish_with_nothing_lost() {
    room_for(1_000);
    let upstream = Upstream::start().await.unwrap();
    let house = House::before(&upstream.url());
    // Nobody is answered before the last has asked.
    let question = Question::learn(upstream.address(), stream("chunks=40 every_ms=10 first_ms=5000")).await.unwrap();
    let mut clients = Clients::connect(house.address(), 1_000).await.unwrap();
    let all_open = upstream.seen().until(PATIENCE, |tally| tally.open == 1_000);
    let (report, open) = join(clients.run(&Arc::new(question), Plan::counting(1)), all_open).await;
    open.expect("all streams are open at the same time");
    assert_eq!(report.unwrap().answered(), 1_000, "and each got every byte of its answer");
}

/// How long the upstream did not know that its client had left, the median of five.
async fn takes_to_notice(upstream: &Upstream, house: &House, script: &str, reads: usize) -> Duration {
    let mut times = Vec::new();
    for _ in 0..5 {
        let left = upstream.seen().now().left;
        let mut client = Connection::open(house.address()).await.unwrap();
        client.send(&stream(script)).await.unwrap();
        upstream.seen().until(PATIENCE, |tally| tally.open == 1).await.expect("the upstream is asked");
        for _ in 0..reads {
            read_event(&mut client).await;
        }
        let leaves = Instant::now();
        drop(client);
        upstream.seen().until(PATIENCE, |tally| tally.left > left).await.expect("the upstream is told");
        times.push(leaves.elapsed());
    }
    times.sort();
    times[2]
}

async fn read_event(client: &mut Connection) -> String {
    client.head().await.unwrap();
    let mut event = Vec::new();
    client.chunk(&mut event).await.unwrap();
    String::from_utf8(event).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_before_the_first_token_or_in_the_stream_cancels_the_work_at_once() {
    let upstream = Upstream::start().await.unwrap();
    let house = House::before(&upstream.url());
    let before_first = takes_to_notice(&upstream, &house, "first_ms=60000", 0).await;
    let streaming = takes_to_notice(&upstream, &house, "chunks=100000 every_ms=5", 1).await;
    assert!(before_first < AT_ONCE && streaming < AT_ONCE, "{before_first:?} {streaming:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_the_line_is_never_asked_for_and_those_behind_it_move_up() {
    let upstream = Upstream::start().await.unwrap();
    let url = upstream.url();
    let house = House::of(&format!(
        "[models.tiny]\nprovider = 'vllm'\nbase_url = '{url}'\nqueue = {{ limit = 1 }}\nhealth = {{ canary = false }}"
    ));
    let mut running = Connection::open(house.address()).await.unwrap();
    running.send(&stream("chunks=100000 every_ms=5")).await.unwrap();
    read_event(&mut running).await;

    let mut waiting = Connection::open(house.address()).await.unwrap();
    waiting.send(&stream("chunks=3")).await.unwrap();
    assert_eq!(read_event(&mut waiting).await, ": queue position=1 eta=1s\n\n");
    assert_eq!(house.gateway.models()[0].waiting, 1);
    drop(waiting);
    let left = Instant::now();
    while house.gateway.models()[0].waiting > 0 {
        assert!(left.elapsed() < Duration::from_millis(100), "it still stands in line");
        tokio::task::yield_now().await;
    }

    let mut next = Connection::open(house.address()).await.unwrap();
    next.send(&stream("chunks=3")).await.unwrap();
    assert_eq!(read_event(&mut next).await, ": queue position=1 eta=1s\n\n", "whoever left stands in line no more");
    drop(running);
    let mut rest = Vec::new();
    while next.chunk(&mut rest).await.unwrap() {}
    assert!(rest.ends_with(b"data: [DONE]\n\n"));
    let tally = upstream.seen().until(PATIENCE, |tally| tally.open == 0).await.unwrap();
    assert_eq!((tally.arrived, tally.answered, tally.left), (2, 1, 1));
}

/// A body that no server may answer well, from this throw of the dice.
fn malformed(dice: &mut fastrand::Rng) -> Vec<u8> {
    match dice.usize(..3) {
        0 => wrong_value(dice).to_string().into_bytes(),
        1 => wrong_text(dice),
        _ => loop {
            let body = mutated(dice);
            if serde_json::from_slice::<Value>(&body).is_err() {
                return body;
            }
        },
    }
}

fn valid() -> Value {
    let messages = json!([{"role": "user", "content": "naïve \"quotes\" and \\ and\nlines"}]);
    json!({"model": "tiny", "messages": messages, "temperature": 0.5, "stream": false, "user": "strict=1"})
}

/// Right JSON, and a field that means nothing.
fn wrong_value(dice: &mut fastrand::Rng) -> Value {
    let mut body = valid();
    let wrong = [
        ("messages", json!(5)),
        ("messages", json!([])),
        ("messages", json!(["hi"])),
        ("messages", json!([{"role": 1, "content": "x"}])),
        ("messages", json!([{"role": "user", "content": {"a": 1}}])),
        ("messages", Value::Null),
        ("model", json!(7)),
        ("model", json!(["tiny"])),
        ("stream", json!("yes")),
        ("stream", json!(1)),
        ("temperature", json!("hot")),
        ("max_tokens", json!({"a": []})),
        ("n", json!([1])),
        ("seed", json!("x")),
    ];
    let (field, value) = wrong[dice.usize(..wrong.len())].clone();
    body[field] = value;
    body
}

fn wrong_text(dice: &mut fastrand::Rng) -> Vec<u8> {
    let body = valid().to_string();
    let deep = |open: &str| body.replace("0.5", &open.repeat(100 + dice.clone().usize(..5_000)));
    let texts = [
        deep("["),
        deep("{\"a\":"),
        body.replace("0.5", "1e99999"),
        body.replace("0.5", &"9".repeat(1_000)).replace('}', ""),
        body.replace("\"model\"", "\"model\":\"x\",\"model\""),
        body.replace("\"model\"", "\"mod\\u0065l\""),
        "null".into(),
        "[]".into(),
        " ".into(),
        String::new(),
    ];
    texts[dice.usize(..texts.len())].clone().into_bytes()
}

/// A body with some bytes changed, or cut off.
fn mutated(dice: &mut fastrand::Rng) -> Vec<u8> {
    let mut body = valid().to_string().into_bytes();
    for _ in 0..dice.usize(1..4) {
        let at = dice.usize(..body.len());
        match dice.usize(..4) {
            0 => body[at] = dice.u8(..),
            1 => body.truncate(at.max(1)),
            2 => body.insert(at, dice.u8(..)),
            _ => drop(body.remove(at)),
        }
        if body.is_empty() {
            break;
        }
    }
    body
}

/// Where what is no question is posted; a wrong value means something in a conversation alone.
fn door(body: &[u8], dice: &mut fastrand::Rng) -> &'static str {
    let paths = ["/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/tokenize", "/detokenize"];
    let is_question = serde_json::from_slice::<Value>(body).is_ok_and(|body| body.is_object());
    if is_question { paths[0] } else { paths[dice.usize(..paths.len())] }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_malformed_bodies_get_a_4xx_in_openais_shape() {
    let upstream = Upstream::start().await.unwrap();
    all_are_refused(&House::before(&upstream.url())).await;
}

/// Nobody behind it refuses anything: what it does not understand it must see itself.
#[tokio::test(flavor = "multi_thread")]
async fn the_engine_refuses_a_thousand_malformed_bodies_just_so() {
    let model = concat!(env!("CARGO_MANIFEST_DIR"), "/models/tiny-chat-f16.gguf");
    let settings = format!("[models.tiny]\nprovider = 'engine'\npath = '{model}'\ncontext = 2048\nthreads = 1");
    let house = House::with(&settings, &[llm_engine::KIND]);
    let life = house.gateway.router().models[0].deployments[0].provider.clone();
    life.life().expect("an engine has one").load().await.unwrap();
    all_are_refused(&house).await;
}

async fn all_are_refused(house: &House) {
    let mut dice = fastrand::Rng::with_seed(7);
    for number in 0..1_000 * factor() {
        let body = malformed(&mut dice);
        let (mut answer, shown) = (Vec::new(), String::from_utf8_lossy(&body[..body.len().min(400)]).into_owned());
        let mut client = Connection::open(house.address()).await.unwrap();
        let head = client.ask(&post(door(&body, &mut dice), None, &body), &mut answer).await;
        let head = head.unwrap_or_else(|error| panic!("{error:#} after body {number}: {shown}"));
        let told = String::from_utf8_lossy(&answer);
        assert!((400..500).contains(&head.status), "{} for body {number}: {shown}\n{told}", head.status);
        let error = serde_json::from_str::<Value>(&told).unwrap_or_else(|_| panic!("not JSON: {told}"))["error"].take();
        assert!(error["message"].is_string() && error["type"].is_string(), "{told}");
        assert!(error.get("param").is_some() && error.get("code").is_some(), "{told}");
    }
    let question = Question::learn(house.address(), post("/v1/chat/completions", None, valid().to_string().as_bytes()));
    question.await.expect("the gateway is as well as before");
}
