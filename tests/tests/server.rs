//! The gateway over real sockets: what a client sees, and what an upstream does.
use std::time::Duration;

use futures_util::StreamExt;
use llm_core::Config;
use llm_tests::house::House;
use llm_tests::http;
use llm_tests::raw::{Raw, Step, answer, chunk, events_in_chunks};
use reqwest::{Method, Response, StatusCode};
use serde_json::{Value, json};

const WHOLE: &str = r#"{"id":"x", "choices":[{"index":0,"message":{"role":"assistant","content":"ok"},"finish_reason":"stop","odd":[1,  2]}],"usage":{"prompt_tokens":1,"completion_tokens":1},"unknown":{"a":null}}"#;

fn fake(extra: &str) -> House {
    House::of(&format!("[models.fake]\nprovider = 'fake'\nsays = 'one two three'\naliases = ['gpt-4o']\n{extra}"))
}

async fn post(url: &str, path: &str, body: impl Into<reqwest::Body>) -> Response {
    http::client().post(format!("{url}{path}")).body(body).send().await.unwrap()
}

/// What was asked of a model; the house's own look at the list may come before or after.
fn posted(raw: &Raw) -> Vec<String> {
    raw.requests().into_iter().filter(|request| request.starts_with("POST")).collect()
}

fn question(stream: bool) -> String {
    json!({"model": "fake", "stream": stream, "messages": [{"role": "user", "content": "?"}]}).to_string()
}

async fn error_of(response: Response) -> (u16, Value) {
    let status = response.status().as_u16();
    let body: Value = serde_json::from_slice(&response.bytes().await.unwrap()).expect("errors are JSON");
    for field in ["message", "type", "param", "code"] {
        assert!(body["error"].get(field).is_some(), "{field} is missing: {body}");
    }
    (status, body["error"].clone())
}

#[tokio::test]
async fn bytes_that_nobody_meant_to_change_are_equal_both_ways() {
    let raw = Raw::answering(answer("200 OK", "content-type: application/json\r\nconnection: close\r\n", WHOLE)).await;
    let house = House::before(&raw.url());
    let body = "{ \"messages\" :[{\"role\":\"user\",\"content\":\"\\u00e9 \\n\"}],  \"unknown\": {\"b\" : [1 ,2]},\"model\":\"m\" , \"top_p\":1.0e0}";
    let response = post(&house.url(), "/v1/chat/completions", body).await;
    assert_eq!(response.text().await.unwrap(), WHOLE);
    assert!(posted(&raw)[0].ends_with(&format!("\r\n\r\n{body}")), "{:?}", raw.requests());
}

#[tokio::test]
async fn fields_that_a_vllm_ignores_are_passed_on_and_told() {
    let raw = Raw::answering(answer("200 OK", "content-type: application/json\r\nconnection: close\r\n", WHOLE)).await;
    let house = House::before(&raw.url());
    let warnings = async |body: &str| {
        let response = post(&house.url(), "/v1/chat/completions", body.to_owned()).await;
        let told = response.headers().get_all("x-llm-warning").iter().map(|v| v.to_str().unwrap().to_owned());
        told.collect::<Vec<_>>()
    };
    let body = r#"{"model":"m","messages":[],"guided_json":{"type":"object"},"guided_choice":["a"]}"#;
    let told = warnings(body).await;
    assert!(posted(&raw)[0].ends_with(body), "it may be an old one: {:?}", raw.requests());
    let (json, choice) = (&told[0], &told[1]);
    assert!(json.starts_with("vllm ignores `guided_json`: send `response_format`"), "{json}");
    assert_eq!(choice, "vllm ignores `guided_choice`: send `structured_outputs` with `choice`");
    assert_eq!(warnings(r#"{"model":"m","messages":[],"response_format":{"type":"text"}}"#).await, [""; 0]);
}

#[tokio::test]
async fn a_stream_is_told_too_and_a_call_that_is_tried_again_only_once() {
    let event = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"hi\"},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n";
    let raw = Raw::answering([events_in_chunks(), &chunk(event), "0\r\n\r\n"].concat()).await;
    let house = House::before(&raw.url());
    let body = r#"{"model":"m","messages":[],"stream":true,"guided_regex":"a+"}"#;
    let response = post(&house.url(), "/v1/chat/completions", body).await;
    assert_eq!(
        response.headers()["x-llm-warning"],
        "vllm ignores `guided_regex`: send `structured_outputs` with `regex`"
    );

    let busy = Raw::answering(answer("503 Service Unavailable", "content-type: application/json\r\n", "{}")).await;
    let config =
        format!("[retry]\nmax_retries = 1\nwait_ms = 1\n[models.m]\nprovider = 'vllm'\nbase_url = '{}'", busy.url());
    let llm = llm_core::Llm::new(&Config::from_toml(&config).unwrap()).unwrap();
    let request = llm_core::ChatRequest::new("?").extra("guided_grammar", "x");
    let call = llm_core::Call::new(request, llm_core::Delivery::Whole);
    assert!(llm_core::Provider::call(&**llm.gateway(), &call).await.is_err());
    assert_eq!(posted(&busy).len(), 2);
    assert_eq!(call.context.progress.borrow().warnings.len(), 1, "{:?}", call.context.progress.borrow().warnings);
}

#[tokio::test]
async fn a_house_before_a_house_is_told_its_warnings_and_the_kind_of_its_errors() {
    let before = |inner: &House| {
        let settings = format!("provider = 'compatible'\nbase_url = '{}'\nhealth = {{ canary = false }}", inner.url());
        llm_core::Llm::new(&Config::from_toml(&format!("[retry]\nmax_retries = 0\n[models.m]\n{settings}")).unwrap())
            .unwrap()
    };
    let raw = Raw::answering(answer("200 OK", "content-type: application/json\r\nconnection: close\r\n", WHOLE)).await;
    let request = llm_core::ChatRequest::new("?").extra("guided_grammar", "x");
    let reply = before(&House::before(&raw.url())).chat(request).await.unwrap();
    assert_eq!(reply.warnings, ["vllm ignores `guided_grammar`: send `structured_outputs` with `grammar`"]);

    let failing = House::of("[retry]\nmax_retries = 0\n[models.m]\nprovider = 'fake'\nfailures = 99");
    for _ in 0..3 {
        assert_eq!(before(&failing).chat("?").await.unwrap_err().kind(), llm_core::Kind::Upstream);
    }
    let error = before(&failing).chat("?").await.unwrap_err(); // it rests now
    assert_eq!((error.kind(), error.get_code()), (llm_core::Kind::Unavailable, Some("model_unavailable")));
    assert!(error.get_retry_after().is_some(), "{error}");
}

#[tokio::test]
async fn an_alias_and_the_wish_for_usage_are_spliced_and_taken_out_again() {
    let event =
        "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"hi\"},\"finish_reason\":\"stop\"}], \"x\":1}\n\n";
    let usage = "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":5,\"completion_tokens\":1}}\n\n";
    let stream = [event, usage, "data: [DONE]\n\n"].concat();
    let all = [events_in_chunks(), &chunk(&stream), "0\r\n\r\n"].concat();
    let raw = Raw::answering(all).await;
    let house = House::of(&format!(
        "[models.ours]\nprovider = 'vllm'\nmodel = 'org/theirs'\naliases = ['alias']\nbase_url = '{}'",
        raw.url()
    ));
    let body = r#"{"model":"alias","stream":true,"messages":[]}"#;
    let seen = post(&house.url(), "/v1/chat/completions", body).await.text().await.unwrap();
    assert_eq!(seen, [event, "data: [DONE]\n\n"].concat());
    let sent = posted(&raw)[0].split_once("\r\n\r\n").unwrap().1.to_owned();
    assert_eq!(sent, r#"{"stream_options":{"include_usage":true},"model":"org/theirs","stream":true,"messages":[]}"#);
    // A client that asks for it gets it.
    let asks = r#"{"model":"alias","stream":true,"stream_options":{"include_usage":true},"messages":[]}"#;
    let seen = post(&house.url(), "/v1/chat/completions", asks).await.text().await.unwrap();
    assert_eq!(seen, stream);
}

#[tokio::test]
async fn every_wrong_request_gets_a_4xx_in_openais_shape_that_names_the_remedy() {
    let house = fake("[server]\nmax_body = 2000");
    let chat = "/v1/chat/completions";
    for (path, body, status, says) in [
        ("/nope", "{}", 404, "no such route: POST /nope"),
        ("/v1/models", "{}", 405, "POST is not the method of /v1/models"),
        (chat, "", 400, "JSON object"),
        (chat, "{", 400, "ends in the middle"),
        (chat, "[]", 400, "JSON object"),
        (chat, r#"{"model":1}"#, 400, "`model` must be a string"),
        (chat, r#"{"model":"fake","stream":"yes"}"#, 400, "`stream` must be true or false"),
        (chat, r#"{"model":"fake"}"#, 400, "`messages` is missing"),
        (chat, r#"{"model":"fake","model":"fake"}"#, 400, "given twice"),
        (chat, r#"{"model":"gpt-9","messages":[]}"#, 404, "no such model: gpt-9; models that can chat: fake"),
        (
            chat,
            r#"{"messages":[{"role":"user","content":"x"}],"temperature":9}"#,
            400,
            "`temperature` must be between 0 and 2",
        ),
        (chat, r#"{"messages":[{"role":"alien","content":"x"}]}"#, 400, "`messages` is wrong"),
        ("/v1/embeddings", r#"{"input":[]}"#, 400, "`input` must have at least one text"),
        ("/v1/completions", r#"{"prompt":7}"#, 400, "`prompt` is wrong"),
        ("/tokenize", "{}", 400, "give either `prompt` or `messages`"),
        ("/detokenize", r#"{"tokens":"x"}"#, 400, "`tokens` is wrong"),
    ] {
        let (got, error) = error_of(post(&house.url(), path, body).await).await;
        assert_eq!(got, status, "{path} {body}: {error}");
        assert!(error["message"].as_str().unwrap().contains(says), "{path} {body}: {error}");
    }
    let (status, error) = error_of(post(&house.url(), chat, vec![b'x'; 3000]).await).await;
    assert_eq!((status, &error["code"]), (413, &json!("body_too_large")));
    let (status, _) = error_of(post(&house.url(), chat, b"{\"model\":\"\xff\"}".to_vec()).await).await;
    assert_eq!(status, 400);
    let get = http::client().get(format!("{}{chat}", house.url())).send().await.unwrap();
    assert_eq!(error_of(get).await.0, 405);
}

#[tokio::test]
async fn the_key_opens_every_route_but_health_and_readiness_which_are_open() {
    let house = fake("[server]\napi_key = 'sk-good'");
    let ask = |header: &'static str, value: &'static str| {
        http::client().get(format!("{}/v1/models", house.url())).header(header, value).send()
    };
    for (header, value) in [("authorization", "Bearer sk-good"), ("x-api-key", "sk-good"), ("api-key", "sk-good")] {
        assert_eq!(ask(header, value).await.unwrap().status(), StatusCode::OK);
    }
    let refused = ask("authorization", "Bearer sk-bad").await.unwrap();
    assert_eq!(refused.headers()["www-authenticate"], "Bearer");
    assert_eq!(error_of(refused).await.1["code"], "invalid_api_key");
    for path in ["/v1/models", "/v1/models/fake", "/metrics"] {
        assert_eq!(http::client().get(house.url() + path).send().await.unwrap().status(), 401, "{path}");
    }
    for path in ["/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/tokenize", "/detokenize"] {
        assert_eq!(error_of(post(&house.url(), path, "{}").await).await.0, 401, "{path}");
    }
    for path in ["/health", "/healthz", "/ready"] {
        assert_ne!(http::client().get(house.url() + path).send().await.unwrap().status(), 401, "{path}");
    }
}

#[tokio::test]
async fn a_name_that_is_no_text_is_no_model_and_needs_the_key_as_every_name_does() {
    let house = fake("[server]\napi_key = 'sk-good'");
    let url = house.url() + "/v1/models/%ff";
    let refused = http::client().get(&url).send().await.unwrap();
    assert_eq!(error_of(refused).await.0, 401);
    let missing = http::client().get(&url).bearer_auth("sk-good").send().await.unwrap();
    let (status, error) = error_of(missing).await;
    assert_eq!((status, &error["code"]), (404, &json!("model_not_found")));
    assert!(error["message"].as_str().unwrap().ends_with("there are: fake"), "{error}");
}

#[test]
fn it_does_not_start_open_where_others_can_reach_it() {
    let config = llm_server::Config { listen: "0.0.0.0:0".parse().unwrap(), metrics: None, ..Default::default() };
    let gateway = std::sync::Arc::new(llm_core::Gateway::new(&Config::default()).unwrap());
    let telemetry = llm_server::Telemetry::new(llm_server::log::Log::to("off").unwrap()).unwrap();
    let error = llm_server::start(config, gateway, telemetry).err().unwrap().to_string();
    assert!(error.contains("LLM_API_KEY"), "{error}");
}

#[tokio::test]
async fn a_request_id_is_accepted_made_and_passed_on() {
    let raw = Raw::answering(answer("200 OK", "connection: close\r\n", WHOLE)).await;
    let house = House::before(&raw.url());
    let ask = |id: &str| {
        let request = http::client().post(format!("{}/v1/chat/completions", house.url())).body(question(false));
        if id.is_empty() { request.send() } else { request.header("x-request-id", id).send() }
    };
    assert_eq!(ask("mine-1").await.unwrap().headers()["x-request-id"], "mine-1");
    assert!(posted(&raw)[0].contains("x-request-id: mine-1"));
    let made = ask("").await.unwrap().headers()["x-request-id"].to_str().unwrap().to_owned();
    assert!(made.len() == 24 && posted(&raw)[1].contains(&made));
    assert_ne!(ask("with blanks").await.unwrap().headers()["x-request-id"], "with blanks");
}

#[tokio::test]
async fn every_answer_has_a_request_id_whatever_it_answers() {
    let house = fake("[server]\napi_key = 'sk-good'");
    let chat = "/v1/chat/completions";
    let cards = ["/v1/models", "/v1/models/fake", "/v1/models/none", "/v1/models/%ff"];
    let others =
        ["/health", "/healthz", "/ready", "/metrics", "/", "/api/version", "/api/ps", "/api/tags", "/nope", chat];
    let post = [chat, "/v1/embeddings", "/tokenize", "/api/chat", "/api/show", "/v1/models", "/nope"];
    let gets = cards.into_iter().chain(others).map(|path| (Method::GET, path));
    let client = http::client();
    for (method, path) in gets.chain(post.map(|path| (Method::POST, path))) {
        let ask = |id: &'static str, key: &'static str| {
            let request = client.request(method.clone(), format!("{}{path}", house.url())).bearer_auth(key);
            let request = if id.is_empty() { request } else { request.header("x-request-id", id) };
            async move {
                let answer = request.body("{}").send().await.unwrap();
                answer.headers()["x-request-id"].to_str().unwrap().to_owned()
            }
        };
        for key in ["sk-good", "sk-bad"] {
            assert_eq!(ask("mine-1", key).await, "mine-1", "{method} {path}");
            let (made, again) = (ask("", key).await, ask("", key).await);
            assert!(made.len() == 24 && made != again, "{method} {path}: {made}");
            assert_eq!(ask("with blanks", key).await.len(), 24, "{method} {path}");
        }
    }
}

#[tokio::test]
async fn a_wrong_key_is_counted_on_every_route_that_wants_one() {
    let house = fake("[server]\napi_key = 'sk-good'");
    let paths = ["/v1/models", "/v1/models/fake", "/metrics", "/api/ps", "/api/tags"];
    for path in paths {
        let refused = http::client().get(house.url() + path).bearer_auth("sk-bad").send().await.unwrap();
        assert_eq!(refused.status(), 401, "{path}");
    }
    let metrics = http::client().get(house.url() + "/metrics").bearer_auth("sk-good").send().await.unwrap();
    let counted = format!("llm_refusals_total{{reason=\"unauthorized\"}} {}", paths.len());
    let metrics = metrics.text().await.unwrap();
    assert!(metrics.contains(&counted), "{metrics}");
}

#[tokio::test]
async fn an_upstream_that_refuses_our_key_says_nothing_of_the_clients() {
    let raw = Raw::answering(answer("401 Unauthorized", "connection: close\r\n", r#"{"error":"Unauthorized"}"#)).await;
    let (status, error) =
        error_of(post(&House::before(&raw.url()).url(), "/v1/chat/completions", question(false)).await).await;
    assert_eq!((status, &error["code"]), (502, &json!("upstream_key_refused")));
}

#[tokio::test]
async fn a_stream_that_breaks_off_upstream_ends_with_an_error_and_one_done() {
    let event = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"half\"},\"finish_reason\":null}]}\n\n";
    let raw = Raw::answering([events_in_chunks(), &chunk(event)].concat()).await;
    let seen =
        post(&House::before(&raw.url()).url(), "/v1/chat/completions", question(true)).await.text().await.unwrap();
    assert!(
        seen.starts_with(event) && seen.contains("stream_truncated") && seen.ends_with("data: [DONE]\n\n"),
        "{seen}"
    );
    assert_eq!(seen.matches("[DONE]").count(), 1);
}

#[tokio::test]
async fn a_full_line_is_503_with_a_wait_and_those_in_line_are_told_their_place() {
    let house = fake("each_ms = 400\nqueue = { limit = 1, waiting = 1 }");
    let running = post(&house.url(), "/v1/chat/completions", question(true)).await;
    let url = house.url();
    let waiting =
        tokio::spawn(async move { post(&url, "/v1/chat/completions", question(true)).await.text().await.unwrap() });
    while house.gateway.models()[0].waiting == 0 {
        tokio::task::yield_now().await;
    }
    let refused = post(&house.url(), "/v1/chat/completions", question(false)).await;
    assert!(refused.headers()["retry-after"].to_str().unwrap().parse::<u64>().unwrap() >= 1);
    assert_eq!(error_of(refused).await.1["code"], "queue_full");
    assert!(running.text().await.unwrap().ends_with("data: [DONE]\n\n"));
    let waited = waiting.await.unwrap();
    assert!(waited.starts_with(": queue position=1 eta=1s\n\n") && waited.ends_with("data: [DONE]\n\n"), "{waited}");
}

#[tokio::test]
async fn a_shutdown_lets_running_streams_end_and_takes_no_new_ones() {
    let house = fake("each_ms = 100");
    let address = house.address();
    let mut stream = post(&house.url(), "/v1/chat/completions", question(true)).await.bytes_stream();
    let first = stream.next().await.unwrap().unwrap();
    house.stop();
    let waits = tokio::task::spawn_blocking(move || house.wait());
    let rest: Vec<_> = stream.map(Result::unwrap).collect().await;
    let all = String::from_utf8([vec![first], rest].concat().concat()).unwrap();
    assert!(all.contains("three") && all.ends_with("data: [DONE]\n\n"), "{all}");
    tokio::time::timeout(Duration::from_secs(5), waits).await.expect("it ends soon after its last answer").unwrap();
    assert!(tokio::net::TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn whole_answers_that_outlast_the_grace_of_a_shutdown_are_refused_and_not_cut() {
    let house = House::of(
        "[server]\nshutdown_timeout_s = 1\n\
         [models.fake]\nprovider = 'fake'\nsays = 'one'\nfirst_ms = 60000\nqueue = { limit = 2 }",
    );
    let ask = |path: &str, connection: &'static str, stream: bool| {
        let request = http::client().post(house.url() + path).header("connection", connection);
        tokio::spawn(request.body(question(stream)).send())
    };
    // One way is straight on the socket, the other is hyper's; the last one stands in line.
    let chat = "/v1/chat/completions";
    let asked = [ask(chat, "keep-alive", false), ask(chat, "close", false), ask(chat, "keep-alive", false)];
    house.until(|models| (models[0].running, models[0].waiting) == (2, 1)).await;
    house.stop();
    let waits = tokio::task::spawn_blocking(move || house.wait());
    for answer in asked {
        let (status, body) = error_of(answer.await.unwrap().expect("it is told")).await;
        assert_eq!((status, &body["code"]), (503, &Value::from("server_stopped")), "{body}");
    }
    tokio::time::timeout(Duration::from_secs(10), waits).await.expect("it ends soon after").unwrap();
}

#[tokio::test]
async fn streams_that_outlast_the_grace_of_a_shutdown_say_that_they_break_off() {
    let house = House::of(
        "[server]\nshutdown_timeout_s = 1\n\
         [models.fake]\nprovider = 'fake'\nsays = 'one two'\neach_ms = 60000\nqueue = { limit = 3 }",
    );
    let ask = |path: &'static str, connection: &'static str| {
        let request = http::client().post(house.url() + path).header("connection", connection);
        request.body(question(true)).send()
    };
    // One way is straight on the socket, the other is hyper's; the last one stands in line.
    let chat = "/v1/chat/completions";
    let streams = [
        ask(chat, "keep-alive").await.unwrap(),
        ask(chat, "close").await.unwrap(),
        ask("/api/chat", "keep-alive").await.unwrap(),
        ask(chat, "keep-alive").await.unwrap(),
    ];
    house.stop();
    let waits = tokio::task::spawn_blocking(move || house.wait());
    for (i, stream) in streams.into_iter().enumerate() {
        let said = stream.text().await.unwrap_or_else(|e| panic!("{i}: its body is cut: {e}"));
        assert!(said.contains("the server stops"), "{i}: {said}");
        assert!(said.ends_with("}\n") || said.ends_with("}\n\ndata: [DONE]\n\n"), "{i}: {said}");
        assert!(said.starts_with(": queue position=1") || said.contains("one "), "{i}: {said}");
    }
    tokio::time::timeout(Duration::from_secs(10), waits).await.expect("it ends soon after").unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reload_under_load_loses_no_request() {
    let house = fake("each_ms = 2");
    let loads = (0..8).map(|_| {
        let url = house.url();
        tokio::spawn(async move {
            for _ in 0..25 {
                let seen = post(&url, "/v1/chat/completions", question(true)).await.text().await.unwrap();
                assert!(seen.contains("three") && seen.ends_with("data: [DONE]\n\n"), "{seen}");
            }
        })
    });
    let loads: Vec<_> = loads.collect();
    for round in 0..40 {
        let text = format!(
            "[models.fake]\nprovider = 'fake'\nsays = 'one two three'\neach_ms = {}\nqueue = {{ limit = {} }}",
            2 + round % 2,
            100 + round
        );
        house.gateway.reload(&Config::from_toml(&text).unwrap()).unwrap();
        tokio::task::yield_now().await;
    }
    for load in loads {
        load.await.unwrap();
    }
}

#[tokio::test]
async fn those_in_line_are_answered_by_the_deployments_of_the_newest_configuration() {
    let deployment = |says: &str, drain: bool| {
        let slow = "first_ms = 300";
        format!("[[models.fake.deployments]]\nprovider = 'fake'\nsays = '{says}'\n{slow}\ndrain = {drain}\n")
    };
    let with = |limit: usize, deployments: &[String]| {
        format!("[models.fake]\nqueue = {{ limit = {limit} }}\n{}", deployments.concat())
    };
    let house = House::of(&with(1, &[deployment("old", false)]));
    let ask = |stream| {
        let url = house.url();
        tokio::spawn(async move {
            let answer = post(&url, "/v1/chat/completions", question(stream)).await;
            (answer.status().as_u16(), answer.text().await.unwrap())
        })
    };
    let asked: Vec<_> = [false, false, true, true].map(ask).into();
    house.until(|models| (models[0].running, models[0].waiting) == (1, 3)).await;
    house.reload(&with(2, &[deployment("old", true), deployment("new", false)])).unwrap();
    house.until(|models| models[0].waiting < 3).await; // there is room for one more, though nobody has come
    let mut by = (0, 0);
    for answer in asked {
        let (status, said) = answer.await.unwrap();
        assert_eq!(status, 200, "{said}");
        by = (by.0 + usize::from(said.contains("old")), by.1 + usize::from(said.contains("new")));
    }
    assert_eq!(by, (1, 3), "the one that was running, and those who stood in line");
    let drained = &house.gateway.models()[0].deployments[0];
    assert_eq!((drained.status, drained.running), ("draining", 0));
}

#[tokio::test]
async fn models_health_readiness_and_metrics_are_there() {
    let house = fake("[models.ill]\nprovider = 'fake'\nloading = true");
    post(&house.url(), "/v1/chat/completions", question(false)).await.text().await.unwrap();
    let get = |path: &str| http::client().get(house.url() + path).send();
    let list: Value = serde_json::from_str(&get("/v1/models").await.unwrap().text().await.unwrap()).unwrap();
    assert_eq!((&list["data"][0]["id"], &list["data"][0]["status"]["value"]), (&json!("fake"), &json!("ready")));
    assert!(list["data"][0]["created"].is_u64());
    let one: Value = serde_json::from_str(&get("/v1/models/gpt-4o").await.unwrap().text().await.unwrap()).unwrap();
    assert_eq!(one["id"], "fake");
    assert_eq!(error_of(get("/v1/models/org/gpt-9").await.unwrap()).await.0, 404);
    assert_eq!(get("/health").await.unwrap().status(), 200);
    assert_eq!(get("/ready").await.unwrap().status(), 200);
    let metrics = get("/metrics").await.unwrap().text().await.unwrap();
    assert!(metrics.contains(r#"llm_requests_total{model="fake",operation="chat",outcome="finished"} 1"#), "{metrics}");
    let (status, error) =
        error_of(post(&house.url(), "/v1/chat/completions", question(false).replace("fake", "ill")).await).await;
    assert_eq!((status, &error["code"]), (503, &json!("model_loading")));
}

#[tokio::test]
async fn a_models_card_has_the_names_that_clients_look_for() {
    let house = fake(
        "specialization = 'python-coding'\ncontext_window = 4096\nmax_model_len = 4096\n\
         [models.far]\nprovider = 'vllm'\nbase_url = 'http://127.0.0.1:1'",
    );
    post(&house.url(), "/v1/chat/completions", question(false)).await.text().await.unwrap();
    let card = async |name: &str| -> Value {
        let answer = http::client().get(format!("{}/v1/models/{name}", house.url())).send().await.unwrap();
        serde_json::from_str(&answer.text().await.unwrap()).unwrap()
    };
    let mut known = card("fake").await;
    let windows = ["max_model_len", "context_length", "context_window", "max_context_length", "max_input_tokens"];
    for window in windows {
        assert_eq!(known[window], 4096, "{window}: {known}");
    }
    let abilities = known["capabilities"].as_array().unwrap();
    assert!(abilities.contains(&json!("chat")) && abilities.contains(&json!("embed")), "{known}");
    assert!(known["created"].is_u64() && known["deployments"][0]["status"] == "ready", "{known}");
    assert!(!known.to_string().contains('/'), "where it runs is the operator's business: {known}");
    let fields = known.as_object_mut().unwrap();
    for told in windows.into_iter().chain(["capabilities", "created", "deployments"]) {
        fields.remove(told);
    }
    let rest = json!({
        "id": "fake", "object": "model", "owned_by": "llm", "aliases": ["gpt-4o"], "specialization": "python-coding",
        "running": 0, "waiting": 0, "status": {"value": "ready", "progress": null, "reason": null},
    });
    assert_eq!(known, rest);
    let unknown = card("far").await;
    for window in &windows[1..] {
        assert!(unknown.get(window).is_none(), "{window}: {unknown}");
    }
}

#[tokio::test]
async fn a_house_whose_only_model_loads_is_not_ready_and_says_why() {
    let house = House::of("[models.ill]\nprovider = 'fake'\nloading = true");
    let ready = http::client().get(house.url() + "/ready").send().await.unwrap();
    assert_eq!(ready.status(), 503);
    let body: Value = serde_json::from_str(&ready.text().await.unwrap()).unwrap();
    assert_eq!(body["models"][0]["id"], "ill");
}

#[tokio::test]
async fn a_client_that_never_ends_its_headers_is_cut() {
    let house = fake("[server]\nheader_timeout_s = 1");
    let mut raw = tokio::net::TcpStream::connect(house.address()).await.unwrap();
    raw.writable().await.unwrap();
    raw.try_write(b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\n").unwrap();
    let mut rest = Vec::new();
    let closed =
        tokio::time::timeout(Duration::from_secs(10), tokio::io::AsyncReadExt::read_to_end(&mut raw, &mut rest));
    closed.await.expect("the server closes it").unwrap();
}

#[tokio::test]
async fn steps_are_followed() {
    // The double itself: a reset is a reset.
    let raw = Raw::start(vec![vec![Step::Read, Step::Reset]]).await;
    assert!(http::client().get(raw.url()).send().await.is_err());
}
