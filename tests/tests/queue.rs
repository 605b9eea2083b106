//! The line in front of a model, over HTTP: a hundred wait, one more is sent away, and whoever leaves is never asked for.
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use llm_core::testkit::Served;
use llm_core::{BoxFuture, Call, Frame, Operation, Operations, Provider, Reply, Result};
use llm_tests::house::House;
use llm_tests::http;
use llm_tests::load::{Connection, post};
use serde_json::{Value, json};
use tokio::sync::Semaphore;

const PATIENCE: Duration = Duration::from_secs(60);
const SOON: Duration = Duration::from_secs(1);

/// An upstream that answers when it is let, with the asker's own name, and notes who asked.
struct Gate {
    asked: Mutex<Vec<String>>,
    lets: Semaphore,
}

impl Gate {
    async fn start() -> (Arc<Gate>, Served) {
        let gate = Arc::new(Gate { asked: Mutex::default(), lets: Semaphore::new(0) });
        (gate.clone(), Served::start(gate).await)
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

impl Provider for Gate {
    fn serves(&self) -> Operations {
        Operations::CHAT | Operation::Models.into()
    }

    fn call<'a>(&'a self, call: &'a Call) -> BoxFuture<'a, Result<Reply>> {
        Box::pin(async move {
            if call.operation == Operation::Models {
                return Ok(Reply::of(Frame::Models(Vec::new())));
            }
            let name: String = serde_json::from_slice(call.raw("user").unwrap()).unwrap();
            self.asked.lock().unwrap().push(name.clone());
            self.lets.acquire().await.expect("it is never closed").forget();
            Ok(Reply::says(name))
        })
    }
}

fn house(gate: &Served) -> House {
    House::of(&format!(
        "[models.m]\nprovider = 'vllm'\nbase_url = '{}'\nqueue = {{ limit = 1, waiting = 100 }}\nhealth = {{ canary = false }}",
        gate.url()
    ))
}

fn body(name: usize, stream: bool) -> String {
    let messages = json!([{"role": "user", "content": "?"}]);
    json!({"model": "m", "stream": stream, "user": name.to_string(), "messages": messages}).to_string()
}

/// A client that has asked.
async fn asking(house: &House, name: usize, stream: bool) -> Connection {
    let mut client = Connection::open(house.address()).await.unwrap();
    client.send(&post("/v1/chat/completions", None, body(name, stream).as_bytes())).await.unwrap();
    client
}

async fn words(mut client: Connection) -> String {
    let mut body = Vec::new();
    let head = client.head().await.unwrap();
    client.body(head, &mut body).await.unwrap();
    let answer: Value = serde_json::from_slice(&body).unwrap();
    answer["choices"][0]["message"]["content"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned()
}

async fn until(what: &str, holds: impl Fn() -> bool) {
    let wait = async {
        while !holds() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("never came: {what}"));
}

/// One that runs, and so many in line behind it, in the order of their names.
async fn line(house: &House, gate: &Gate, waiting: usize) -> Vec<Connection> {
    let mut clients = vec![asking(house, 0, false).await];
    until("the first is asked for", || gate.asked().len() == 1).await;
    for name in 1..=waiting {
        clients.push(asking(house, name, name % 2 == 1 && waiting < 100).await);
        until("it stands in line", || house.gateway.models()[0].waiting == name).await;
    }
    clients
}

#[tokio::test(flavor = "multi_thread")]
async fn of_102_questions_101_are_answered_in_order_and_one_is_sent_away_at_once() {
    let (gate, served) = Gate::start().await;
    let house = house(&served);
    let clients = line(&house, &gate, 100).await;

    let since = Instant::now();
    let url = house.url() + "/v1/chat/completions";
    let refused = http::client().post(url).body(body(101, false)).send().await.unwrap();
    assert!(since.elapsed() < SOON, "{:?}", since.elapsed());
    assert_eq!(refused.status(), 503);
    // A hundred and one turns are before it; the first has not ended, so that a second is the guess for each.
    assert_eq!(refused.headers()["retry-after"], "101");
    let error = &refused.json::<Value>().await.unwrap()["error"];
    assert_eq!((&error["code"], &error["type"]), (&json!("queue_full"), &json!("service_unavailable_error")));

    let since = Instant::now();
    for path in ["/health", "/ready", "/metrics", "/v1/models"] {
        let answer = http::client().get(house.url() + path).send().await.unwrap();
        assert!(answer.status().is_success() || path == "/ready", "{path}");
        let body = answer.text().await.unwrap();
        assert!(path != "/metrics" || body.contains("llm_queue_depth{model=\"m\"} 100"), "{body}");
    }
    assert!(since.elapsed() < SOON, "all four: {:?}", since.elapsed());

    gate.lets.add_permits(101);
    for (name, client) in clients.into_iter().enumerate() {
        assert_eq!(words(client).await, name.to_string(), "everybody gets an answer of its own");
    }
    let in_order: Vec<String> = (0..=100).map(|name| name.to_string()).collect();
    assert_eq!(gate.asked(), in_order, "first come, first served, and who was sent away never");
    assert_eq!((house.gateway.models()[0].running, house.gateway.models()[0].waiting), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_who_leave_the_line_are_never_asked_for_and_who_stays_moves_up() {
    let (gate, served) = Gate::start().await;
    let house = house(&served);
    let mut clients = line(&house, &gate, 20).await;
    let last = asking(&house, 21, false).await;
    until("it stands in line", || house.gateway.models()[0].waiting == 21).await;
    let running = clients.remove(0);
    drop(clients); // half of them stood there for whole answers, half for streams
    until("they have left", || house.gateway.models()[0].waiting == 1).await;
    gate.lets.add_permits(2);
    assert_eq!((words(running).await, words(last).await), ("0".into(), "21".into()));
    assert_eq!(gate.asked(), ["0", "21"]);
    until("all turns are free", || house.gateway.models()[0].running == 0).await;
}

async fn streaming(house: &House, name: usize) -> reqwest::Response {
    http::client().post(house.url() + "/v1/chat/completions").body(body(name, true)).send().await.unwrap()
}

fn number(response: &reqwest::Response, header: &str) -> Option<u64> {
    response.headers().get(header).map(|value| value.to_str().unwrap().parse().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn who_stood_in_line_is_told_where_it_joined_and_how_long_it_waited() {
    let (gate, served) = Gate::start().await;
    let house = house(&served);
    let _running = asking(&house, 0, false).await;
    until("the first is asked for", || gate.asked().len() == 1).await;
    let url = house.url() + "/v1/chat/completions";
    let whole = tokio::spawn(async move { http::client().post(url).body(body(1, false)).send().await.unwrap() });
    until("it stands in line", || house.gateway.models()[0].waiting == 1).await;
    // A stream gets its headers after a second, and stands there still: how long it will have waited, nobody knows.
    let mut stream = streaming(&house, 2).await;
    assert_eq!((number(&stream, "x-queue-position"), number(&stream, "x-queue-wait-ms")), (Some(2), None));
    let place = stream.chunk().await.unwrap().unwrap();
    assert!(place.starts_with(b": queue position=2"), "{place:?}");
    gate.lets.add_permits(3);
    let whole = whole.await.unwrap();
    assert_eq!(number(&whole, "x-queue-position"), Some(1));
    assert!(number(&whole, "x-queue-wait-ms").unwrap() >= 900, "longer than the stream waited for its headers");
    let said = stream.text().await.unwrap();
    assert!(said.ends_with("data: [DONE]\n\n"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_falls_back_after_its_headers_says_so_in_a_comment() {
    let (gate, served) = Gate::start().await;
    let house = House::of(&format!(
        "[models.m]\nprovider = 'vllm'\nbase_url = '{}'\nqueue = {{ limit = 1, max_wait_s = 2 }}\nfallback = ['spare']\n\
         health = {{ canary = false }}\n[models.spare]\nprovider = 'fake'\nsays = 'instead'",
        served.url()
    ));
    let _running = asking(&house, 0, false).await;
    until("the first is asked for", || gate.asked().len() == 1).await;
    let stream = streaming(&house, 1).await;
    assert!(stream.headers().get("x-llm-warning").is_none(), "nobody knew it then");
    let said = stream.text().await.unwrap();
    let warning = ": warning spare answered instead of m\n\n";
    let (before, after) = said.split_once(warning).unwrap_or_else(|| panic!("{said}"));
    assert!(before.starts_with(": queue position=1") && !before.contains("data: "), "{said}");
    assert!(after.contains("instead") && after.ends_with("data: [DONE]\n\n"), "{said}");
}
