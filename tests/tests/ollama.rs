//! Ollama both ways: a server of its kind behind the house, and clients of its kind in front of it.
use llm_core::testkit::{Mock, Step, answer, chunk};
use llm_core::{ChatReply, ChatRequest, Config, EmbedRequest, FinishReason, Kind, Llm};
use llm_tests::house::House;
use llm_tests::http;
use reqwest::Response;
use serde_json::{Value, json};

/// The stream of its own guide, as it comes over the line.
const LINES: [&str; 3] = [
    r#"{"model":"llama3.2","created_at":"2023-08-04T08:52:19.385406455-07:00","message":{"role":"assistant","content":"Thé "},"done":false}"#,
    r#"{"model":"llama3.2","created_at":"2023-08-04T08:52:19.4-07:00","message":{"role":"assistant","content":"end."},"done":false}"#,
    r#"{"model":"llama3.2","created_at":"2023-08-04T19:22:45.499127Z","message":{"role":"assistant","content":""},"done_reason":"stop","done":true,"total_duration":4883583458,"load_duration":1334875,"prompt_eval_count":26,"prompt_eval_duration":342546000,"eval_count":282,"eval_duration":4535599000}"#,
];
const WHOLE: &str = r#"{"model":"llama3.2","created_at":"2023-12-12T14:13:43.416799Z","message":{"role":"assistant","content":"Hello!"},"done":true,"prompt_eval_count":26,"eval_count":298}"#;
const HEAD: &str = "HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n";

fn lines(lines: &[&str]) -> String {
    let chunks: String = lines.iter().map(|line| chunk(&format!("{line}\n"))).collect();
    [HEAD, &chunks, &chunk("")].concat()
}

fn whole(body: &str) -> Vec<u8> {
    answer("200 OK", "content-type: application/json; charset=utf-8\r\nconnection: close\r\n", body)
}

fn settings(mock: &Mock, more: &str) -> String {
    format!(
        "retry = {{ max_retries = 0 }}\n[models.'llama3.2']\nprovider = 'ollama'\nbase_url = '{}'\n{more}",
        mock.url()
    )
}

fn before(mock: &Mock, more: &str) -> Llm {
    Llm::new(&Config::from_toml(&settings(mock, more)).unwrap()).unwrap()
}

async fn streamed(mock: &Mock) -> ChatReply {
    let mut stream = before(mock, "").stream(ChatRequest::new("?")).await.unwrap();
    while stream.next().await.unwrap().is_some() {}
    stream.so_far().clone()
}

/// What it was asked last, but for its list of models.
fn asked(mock: &Mock, path: &str) -> Value {
    let wanted = format!("POST {path} ");
    let request = mock.requests().into_iter().rfind(|request| request.starts_with(&wanted)).expect("it was asked");
    serde_json::from_str(request.split_once("\r\n\r\n").unwrap().1).unwrap()
}

async fn post(house: &House, path: &str, body: Value) -> Response {
    http::client().post(format!("{}{path}", house.url())).body(body.to_string()).send().await.unwrap()
}

async fn told(house: &House, path: &str, body: Value) -> Vec<Value> {
    let response = post(house, path, body).await;
    assert_eq!(response.headers()["content-type"], "application/x-ndjson");
    let text = response.text().await.unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test]
async fn a_stream_is_understood_wherever_its_bytes_are_cut() {
    let mock = Mock::start(vec![vec![Step::Read, Step::Trickle(lines(&LINES).into_bytes())]]).await;
    let reply = streamed(&mock).await;
    assert_eq!((reply.text.as_str(), reply.finish_reason), ("Thé end.", Some(FinishReason::Stop)));
    assert_eq!(reply.usage.unwrap().completion_tokens, 282);
    for cut in 1..lines(&LINES).len() - HEAD.len() {
        let bytes = lines(&LINES).into_bytes();
        let (one, other) = bytes.split_at(HEAD.len() + cut);
        let steps = vec![Step::Read, Step::Send(one.to_vec()), Step::Send(other.to_vec())];
        let mock = Mock::start(vec![steps]).await;
        assert_eq!(streamed(&mock).await.text, "Thé end.");
    }
}

#[tokio::test]
async fn a_stream_that_breaks_off_or_tells_an_error_has_failed() {
    let error = r#"{"error":"an error was encountered while running the model: unexpected EOF"}"#;
    for (bytes, code, says) in [
        (lines(&LINES[..2]), Some("stream_truncated"), "broke off"),
        (lines(&[LINES[0], error]), None, "unexpected EOF"),
        ([HEAD, &chunk(LINES[0]), &chunk("\n{\"mod")].concat(), Some("stream_truncated"), "broke off"),
    ] {
        let mock = Mock::answering(bytes).await;
        let mut stream = before(&mock, "").stream(ChatRequest::new("?")).await.unwrap();
        assert_eq!(stream.next_text().await.unwrap().unwrap(), "Thé ");
        let error = loop {
            match stream.next_text().await {
                Ok(piece) => assert!(piece.is_some(), "it ends as if all were well"),
                Err(error) => break error,
            }
        };
        assert_eq!((error.kind(), error.get_code()), (Kind::Upstream, code));
        assert!(error.message().contains(says), "{error}");
    }
    let first = Mock::answering(lines(&[error])).await;
    let error = before(&first, "").stream(ChatRequest::new("?")).await.err().expect("nothing has been said yet");
    assert_eq!(error.kind(), Kind::Upstream);
}

#[tokio::test]
async fn options_come_from_the_configuration_and_the_call_goes_before_it() {
    let mock = Mock::answering(whole(WHOLE)).await;
    let llm = before(&mock, "keep_alive = '10m'\noptions = { num_ctx = 8192, num_gpu = 1, temperature = 0.9 }");
    llm.chat("?").await.unwrap();
    let body = asked(&mock, "/api/chat");
    assert_eq!(body["options"], json!({"num_ctx": 8192, "num_gpu": 1, "temperature": 0.9}));
    assert_eq!((&body["keep_alive"], &body["stream"]), (&json!("10m"), &json!(false)));
    llm.chat(ChatRequest::new("?").temperature(0.0).extra("num_ctx", 1024)).await.unwrap();
    assert_eq!(asked(&mock, "/api/chat")["options"], json!({"num_ctx": 1024, "num_gpu": 1, "temperature": 0}));
    // A client of its own keeps every byte of its own, and gets what it does not say.
    let house = House::of(&settings(&mock, "options = { num_ctx = 8192 }"));
    let client = json!({"model": "llama3.2", "stream": false, "messages": [{"role": "user", "content": "é"}], "options": {"top_k": 3}, "new": 1});
    let reply = post(&house, "/api/chat", client.clone()).await.text().await.unwrap();
    assert_eq!(reply, WHOLE);
    let mut expected = client;
    expected["options"]["num_ctx"] = 8192.into();
    assert_eq!(asked(&mock, "/api/chat"), expected);
}

#[tokio::test]
async fn openais_clients_reach_it_and_are_told_what_it_lacks() {
    let mock = Mock::start(vec![vec![Step::Read, Step::Send(whole(WHOLE))]; 9]).await;
    let house = House::of(&settings(&mock, ""));
    let body = json!({"model": "llama3.2", "max_tokens": 7, "num_ctx": 2048, "logit_bias": {"1": 5}, "messages": [{"role": "user", "content": "?"}]});
    let response = post(&house, "/v1/chat/completions", body).await;
    assert!(response.headers()["x-llm-warning"].to_str().unwrap().contains("logit_bias"), "{response:?}");
    let answer: Value = serde_json::from_str(&response.text().await.unwrap()).unwrap();
    assert_eq!(answer["choices"][0]["message"]["content"], "Hello!");
    assert_eq!(
        (&answer["choices"][0]["finish_reason"], &answer["usage"]["completion_tokens"]),
        (&json!("stop"), &json!(298))
    );
    assert_eq!(asked(&mock, "/api/chat")["options"], json!({"num_predict": 7, "num_ctx": 2048}));
    let two = json!({"model": "llama3.2", "n": 2, "messages": [{"role": "user", "content": "?"}]});
    let refused = post(&house, "/v1/chat/completions", two).await;
    assert_eq!((refused.status().as_u16(), refused.text().await.unwrap().contains("`n` must be 1")), (400, true));
}

#[tokio::test]
async fn its_stream_goes_to_its_own_clients_as_it_comes_and_to_openais_as_events() {
    let mock = Mock::start(vec![vec![Step::Read, Step::Send(lines(&LINES).into_bytes())]; 9]).await;
    let house = House::of(&settings(&mock, ""));
    let question = json!({"model": "llama3.2", "messages": [{"role": "user", "content": "?"}]});
    let response = post(&house, "/api/chat", question.clone()).await;
    assert_eq!(response.text().await.unwrap(), LINES.map(|line| format!("{line}\n")).concat());
    let mut question = question;
    question["stream"] = true.into();
    question["stream_options"] = json!({"include_usage": true});
    let events = post(&house, "/v1/chat/completions", question).await.text().await.unwrap();
    assert!(events.contains("\"content\":\"Th\u{e9} \"") && events.contains("\"completion_tokens\":282"), "{events}");
    assert!(events.ends_with("data: [DONE]\n\n"), "{events}");
}

#[tokio::test]
async fn its_vectors_come_in_one_batch_and_its_models_by_their_names() {
    let vectors = whole(r#"{"model":"e","embeddings":[[1,0],[0,1]],"prompt_eval_count":8}"#);
    let mock = Mock::answering(vectors).await;
    let answer = before(&mock, "").embed(EmbedRequest::new(["a", "b"])).await.unwrap();
    assert_eq!((answer.vectors.len(), answer.usage.unwrap().prompt_tokens), (2, 8));
    assert_eq!(asked(&mock, "/api/embed")["input"], json!(["a", "b"]));
    let listed =
        Mock::answering(whole(r#"{"models":[{"name":"llama3.2:latest","model":"llama3.2:latest","size":1}]}"#)).await;
    let health = before(&listed, "").health().await;
    assert!(health[0].1.is_ok(), "{health:?}");
    assert!(listed.requests()[0].starts_with("GET /api/tags "), "{:?}", listed.requests());
}

fn fake() -> House {
    House::of(
        "[models.fake]\nprovider = 'fake'\nsays = 'one two'\n[models.slow]\nprovider = 'fake'\nfirst_ms = 1500\nqueue = { limit = 1 }\n",
    )
}

#[tokio::test]
async fn a_client_of_its_kind_gets_lines_unless_it_says_otherwise() {
    let house = fake();
    let question = json!({"model": "fake", "messages": [{"role": "user", "content": "?"}], "options": {"num_ctx": 9}});
    let said = told(&house, "/api/chat", question.clone()).await;
    let words: String = said.iter().map(|line| line["message"]["content"].as_str().unwrap()).collect();
    let last = said.last().unwrap();
    assert_eq!((words.as_str(), &last["done"], &last["done_reason"]), ("one two", &json!(true), &json!("stop")));
    assert!(last["eval_count"].as_u64().unwrap() > 0 && said.iter().filter(|line| line["done"] == true).count() == 1);
    let said = told(&house, "/api/generate", json!({"model": "fake", "prompt": "?"})).await;
    assert_eq!(said.iter().map(|line| line["response"].as_str().unwrap()).collect::<String>(), "one two");
    let mut whole = question;
    whole["stream"] = false.into();
    let response = post(&house, "/api/chat", whole).await;
    assert!(response.headers()["x-llm-warning"].to_str().unwrap().contains("options.num_ctx"));
    let answer: Value = serde_json::from_str(&response.text().await.unwrap()).unwrap();
    assert_eq!(answer["message"]["content"], "one two");
    let vectors = post(&house, "/api/embed", json!({"model": "fake", "input": ["a", "b"]})).await.text().await.unwrap();
    assert_eq!(serde_json::from_str::<Value>(&vectors).unwrap()["embeddings"].as_array().unwrap().len(), 2);
    let vector = post(&house, "/api/embeddings", json!({"model": "fake", "prompt": "a"})).await.text().await.unwrap();
    assert!(serde_json::from_str::<Value>(&vector).unwrap()["embedding"][0].is_number(), "{vector}");
}

#[tokio::test]
async fn its_errors_are_a_sentence() {
    let house = fake();
    let question = |model: &str| json!({"model": model, "messages": [{"role": "user", "content": "?"}]});
    for (body, status, says) in [
        (question("nope"), 404, "no such model: nope"),
        (json!({"model": "fake"}), 400, "`messages` must have"),
        (json!({"model": "fake", "messages": [{"role": "king", "content": "?"}]}), 400, "`role` must be"),
        (
            json!({"model": "fake", "messages": [{"role": "user", "content": "?", "images": ["no"]}]}),
            400,
            "the image is no base64",
        ),
        (json!({"model": "fake", "messages": [], "options": {"temperature": 9}}), 400, "`temperature` must be"),
    ] {
        let response = post(&house, "/api/chat", body).await;
        assert_eq!(response.status().as_u16(), status);
        let error: Value = serde_json::from_str(&response.text().await.unwrap()).unwrap();
        assert!(error["error"].as_str().unwrap().contains(says), "{error}");
    }
    for (path, status, says) in [("/api/pull", 404, "no such route"), ("/api/tags", 405, "is not the method of")] {
        let response = post(&house, path, json!({})).await;
        assert_eq!(response.status().as_u16(), status);
        let error: Value = serde_json::from_str(&response.text().await.unwrap()).unwrap();
        assert!(error["error"].as_str().unwrap().contains(says), "{error}");
    }
}

#[tokio::test]
async fn a_client_in_line_gets_empty_pieces_until_it_is_its_turn() {
    let house = fake();
    let question = || json!({"model": "slow", "messages": [{"role": "user", "content": "?"}]});
    let (first, second) = tokio::join!(told(&house, "/api/chat", question()), told(&house, "/api/chat", question()));
    let longer = if first.len() > second.len() { first } else { second };
    assert_eq!((&longer[0]["message"]["content"], &longer[0]["done"]), (&json!(""), &json!(false)));
    assert_eq!(longer.last().unwrap()["done"], true);
}

#[tokio::test]
async fn what_editors_ask_before_they_offer_a_model_is_answered() {
    let house = fake();
    let get = async |path: &str| {
        let body = reqwest::get(format!("{}{path}", house.url())).await.unwrap().text().await.unwrap();
        serde_json::from_str::<Value>(&body).unwrap()
    };
    let _ = http::client();
    assert_eq!(get("/api/version").await["version"], "0.0.0");
    let tags = get("/api/tags").await;
    assert_eq!((&tags["models"][0]["model"], &tags["models"][1]["name"]), (&json!("fake"), &json!("slow")));
    let shown = post(&house, "/api/show", json!({"model": "fake"})).await.text().await.unwrap();
    let shown: Value = serde_json::from_str(&shown).unwrap();
    assert!(shown["capabilities"].as_array().unwrap().contains(&json!("tools")), "{shown}");
    let architecture = shown["model_info"]["general.architecture"].as_str().unwrap();
    assert!(shown["model_info"].get(format!("{architecture}.context_length")).is_some(), "{shown}");
    let missing = post(&house, "/api/show", json!({"model": "nope"})).await;
    assert_eq!(
        (missing.status().as_u16(), missing.text().await.unwrap().as_str()),
        (404, r#"{"error":"model 'nope' not found"}"#)
    );
    let head = http::client().head(house.url()).send().await.unwrap();
    assert_eq!(head.status().as_u16(), 200);
}
