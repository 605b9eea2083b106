//! Pages of other origins, clients that speak TLS, and traces that go through.
use std::path::Path;
use std::time::Duration;

use llm_tests::house::House;
use llm_tests::http;
use llm_tests::raw::{Raw, answer};
use llm_tests::upstream::Upstream;
use reqwest::{Method, Response, StatusCode};

const QUESTION: &str = r#"{"model":"m","messages":[{"role":"user","content":"?"}]}"#;
const FAKE: &str = "[models.m]\nprovider = 'fake'\nsays = 'hello'";

async fn ask(house: &House, origin: &str, method: Method, headers: &[(&str, &str)]) -> Response {
    let request = http::client().request(method, format!("{}/v1/chat/completions", house.url()));
    let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    request.header("origin", origin).body(QUESTION).send().await.unwrap()
}

fn header<'r>(response: &'r Response, name: &str) -> &'r str {
    response.headers().get(name).map_or("", |value| value.to_str().unwrap())
}

#[tokio::test]
async fn a_page_of_a_listed_origin_may_ask_and_its_browser_is_told_so_before() {
    let house = House::of(&format!("[server]\napi_key = 'sk-1'\ncors = ['https://chat.example']\n{FAKE}"));
    let wants = [
        ("access-control-request-method", "POST"),
        ("access-control-request-headers", "authorization,content-type"),
        ("access-control-request-private-network", "true"),
    ];
    let preflight = ask(&house, "https://chat.example", Method::OPTIONS, &wants).await;
    assert_eq!(preflight.status(), StatusCode::OK, "without a key: browsers send none");
    assert_eq!(header(&preflight, "access-control-allow-origin"), "https://chat.example");
    assert_eq!(header(&preflight, "access-control-allow-headers"), "authorization,content-type");
    assert_eq!(header(&preflight, "access-control-allow-private-network"), "true");
    let key = [("authorization", "Bearer sk-1")];
    let response = ask(&house, "https://chat.example", Method::POST, &key).await;
    assert_eq!(header(&response, "access-control-allow-origin"), "https://chat.example");
    assert!(header(&response, "access-control-expose-headers").contains("x-request-id"));
    assert!(response.text().await.unwrap().contains("hello"));
    let stranger = ask(&house, "https://evil.example", Method::POST, &key).await;
    assert_eq!(header(&stranger, "access-control-allow-origin"), "", "its browser keeps the answer from the page");
    let refused = ask(&house, "https://chat.example", Method::POST, &[]).await;
    assert_eq!(refused.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(header(&refused, "access-control-allow-origin"), "https://chat.example", "a page can read the error");
}

#[tokio::test]
async fn without_a_list_no_page_of_another_origin_may_ask() {
    let house = House::of(FAKE);
    // What needs no preflight is sent whatever its page may read: it must not reach a model.
    for (origin, status) in [("https://chat.example", 403), ("null", 403), (&*house.url(), 200)] {
        let response = ask(&house, origin, Method::POST, &[("content-type", "text/plain")]).await;
        assert_eq!((response.status().as_u16(), header(&response, "access-control-allow-origin")), (status, ""));
        let answer = response.text().await.unwrap();
        assert_eq!(answer.contains("origin_not_allowed"), status == 403, "{answer}");
    }
    let listed = http::client().get(format!("{}/v1/models", house.url())).header("origin", "https://chat.example");
    assert_eq!(listed.send().await.unwrap().status(), StatusCode::FORBIDDEN);
    let preflight = ask(&house, "https://chat.example", Method::OPTIONS, &[]).await;
    assert_eq!(preflight.status(), StatusCode::METHOD_NOT_ALLOWED);
}

/// A client that trusts this certificate alone.
fn trusting(pem: &str) -> reqwest::Client {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let certificate = reqwest::Certificate::from_pem(pem.as_bytes()).unwrap();
    reqwest::Client::builder().tls_certs_only([certificate]).build().unwrap()
}

/// A new certificate and its key in this folder, and a client that trusts it.
fn certified(folder: &Path) -> reqwest::Client {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    std::fs::write(folder.join("cert.pem"), made.cert.pem()).unwrap();
    std::fs::write(folder.join("key.pem"), made.signing_key.serialize_pem()).unwrap();
    trusting(&made.cert.pem())
}

fn with_files(folder: &Path, server: &str, models: &str) -> String {
    let folder = folder.display();
    format!("[server]\n{server}\ntls_cert = '{folder}/cert.pem'\ntls_key = '{folder}/key.pem'\n{models}")
}

/// A house with a certificate of its own, its address, and a client that trusts it.
fn behind_tls(server: &str, models: &str) -> (House, String, reqwest::Client) {
    let folder = tempfile::tempdir().unwrap();
    let client = certified(folder.path());
    let house = House::of(&with_files(folder.path(), server, models));
    let url = format!("https://localhost:{}/v1/chat/completions", house.address().port());
    (house, url, client)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_was_renewed_is_shown_without_a_new_start() {
    let folder = tempfile::tempdir().unwrap();
    let old = certified(folder.path());
    let config = with_files(folder.path(), "", FAKE);
    let house = House::of(&config);
    let url = format!("https://localhost:{}/v1/chat/completions", house.address().port());
    let ask = |client: &reqwest::Client| client.post(&url).body(QUESTION).header("connection", "close").send();
    assert!(ask(&old).await.is_ok());
    let new = certified(folder.path());
    assert!(ask(&new).await.is_err(), "the old one is shown until then");
    house.reload(&config).unwrap();
    assert!(ask(&new).await.is_ok() && ask(&old).await.is_err());
    std::fs::write(folder.path().join("cert.pem"), "half of it").unwrap();
    let error = house.reload(&config).unwrap_err().to_string();
    assert!(error.starts_with("server.tls_cert: ") && error.contains("cert.pem cannot be used"), "{error}");
    assert!(ask(&new).await.is_ok(), "what is wrong changes nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_speak_tls_where_there_is_a_certificate() {
    let (_house, url, client) = behind_tls("", FAKE);
    for body in [QUESTION.to_owned(), QUESTION.replace("\"model\"", "\"stream\":true,\"model\"")] {
        let text = client.post(&url).body(body).send().await.unwrap().text().await.unwrap();
        assert!(text.contains("hello"), "{text}");
    }
    let plain = http::client().post(url.replace("https", "http")).body(QUESTION).send().await;
    assert!(plain.is_err(), "nothing is said in plain words");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_reads_nothing_over_tls_is_given_up_too() {
    let patience = Duration::from_secs(20);
    let upstream = Upstream::start().await.unwrap();
    let models =
        format!("[models.m]\nprovider = 'vllm'\nbase_url = '{}'\nhealth = {{ canary = false }}", upstream.url());
    let (_house, url, client) = behind_tls("write_timeout_s = 1", &models);
    let endless = QUESTION.replace("\"model\"", "\"stream\":true,\"user\":\"chunks=100000000\",\"model\"");
    let unread = client.post(&url).body(endless).send().await.unwrap();
    upstream.seen().until(patience, |tally| tally.left == 1).await.expect("it is told that nobody reads");
    drop(unread);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_over_tls_is_noticed_in_every_phase() {
    let patience = Duration::from_secs(20);
    let upstream = Upstream::start().await.unwrap();
    let models = format!(
        "[models.m]\nprovider = 'vllm'\nbase_url = '{}'\nhealth = {{ canary = false }}\nqueue = {{ limit = 1 }}",
        upstream.url()
    );
    let (house, url, client) = behind_tls("", &models);
    let ask = |wish: &str| {
        let body = QUESTION.replace("\"model\"", &format!("\"user\":\"{wish}\",\"model\""));
        tokio::spawn(client.post(&url).body(body).send())
    };
    let asking = ask("first_ms=60000");
    upstream.seen().until(patience, |tally| tally.open == 1).await.expect("it is asked");
    let waiting = ask("first_ms=60000");
    house.until(|models| models[0].waiting == 1).await;
    waiting.abort();
    house.until(|models| models[0].waiting == 0).await;
    asking.abort();
    upstream.seen().until(patience, |tally| tally.left == 1).await.expect("it is told");
    let stream = QUESTION.replace("\"model\"", r#""stream":true,"user":"chunks=9 hang_after=2","model""#);
    let mut begun = client.post(&url).body(stream).send().await.unwrap();
    assert!(begun.chunk().await.unwrap().is_some());
    drop(begun);
    upstream.seen().until(patience, |tally| tally.left == 2).await.expect("it is told");
    house.until(|models| models[0].running == 0).await;
    assert_eq!(upstream.seen().now().arrived, 2, "who left the line was never asked for");
}

#[tokio::test]
async fn a_trace_goes_on_to_the_upstream_and_the_clients_key_and_cookies_stay_here() {
    let whole = r#"{"choices":[{"index":0,"message":{"role":"assistant","content":"ok"},"finish_reason":"stop"}]}"#;
    let raw =
        Raw::answering(answer("200 OK", "content-type: application/json\r\nset-cookie: theirs=1\r\n", whole)).await;
    let house = House::of(&format!(
        "[server]\napi_key = 'sk-ours'\n[models.m]\nprovider = 'vllm'\nbase_url = '{}'\napi_key = 'sk-theirs'",
        raw.url()
    ));
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let headers = [
        ("authorization", "Bearer sk-ours"),
        ("traceparent", trace),
        ("cookie", "session=secret"),
        ("x-forwarded-for", "10.1.1.1"),
        ("proxy-authorization", "Basic eA=="),
        ("x-request-id", "r-1"),
    ];
    let request = http::client().post(format!("{}/v1/chat/completions", house.url())).body(QUESTION);
    let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    let response = request.send().await.unwrap();
    assert_eq!((response.status(), header(&response, "set-cookie")), (StatusCode::OK, ""));
    let sent = raw.requests().into_iter().find(|request| request.starts_with("POST") && request.contains("r-1"));
    let sent = sent.expect("the question went on").to_lowercase();
    assert!(sent.contains(&format!("traceparent: {trace}\r\n")) && sent.contains("bearer sk-theirs"), "{sent}");
    for kept in ["sk-ours", "cookie", "10.1.1.1", "proxy-authorization"] {
        assert!(!sent.contains(kept), "{kept}: {sent}");
    }
}
