//! Before a real vLLM, what no story of every door tells: the gateway in bytes, and a tokenizer at hand beside vLLM's own.
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use llm_core::{Config, Llm, Message, Prompt, TokenizeRequest};
use llm_tests::house::House;
use llm_tests::http;
use llm_tests::vllm::Vllm;
use serde_json::{Value, json};

/// One test at a time: one counts what runs.
static TURN: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// Whether as many requests run as wanted, within this time.
async fn runs(vllm: &Vllm, wanted: impl Fn(usize) -> bool, within: Duration) -> bool {
    let since = Instant::now();
    loop {
        if wanted(vllm.running()) {
            return true;
        }
        if since.elapsed() > within {
            return false;
        }
        tokio::time::sleep(Duration::from_millis(5)).await; // it has an answer to make, too
    }
}

fn weather() -> Value {
    let city =
        json!({"type": "object", "properties": {"city": {"type": "string", "maxLength": 12}}, "required": ["city"]});
    json!({"type": "function", "function": {"name": "get_weather", "description": "Weather in a city", "parameters": city}})
}

/// Its own count, and ours from the folder that it serves: conversations with tools, calls and results, and plain texts.
#[tokio::test]
async fn a_tokenizer_at_hand_counts_as_it_does() {
    let _turn = TURN.lock().await;
    let vllm = Vllm::chat();
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/models/tiny-chat");
    let settings = format!("[models.'*']\nprovider = 'vllm'\nbase_url = '{}'", vllm.base_url());
    let llm = |text: &str| Llm::new(&Config::from_toml(text).unwrap()).unwrap();
    let (theirs, ours) = (llm(&settings), llm(&format!("{settings}\ntokenizer = '{folder}'")));
    let mut asks = Message::assistant("");
    let call =
        json!({"id": "c1", "function": {"name": "get_weather", "arguments": "{\"days\": 2, \"city\": \"Paris\"}"}});
    asks.tool_calls.push(serde_json::from_value(call).unwrap());
    let talk = vec![
        Message::system("Be terse."),
        Message::user("What is the weather in Paris?"),
        asks,
        Message::tool("c1", "{\"rain\": true, \"x\": \"Übung 数\"}"),
        Message::assistant("It rains."),
        Message::user("Thanks."),
    ];
    let extra = serde_json::Map::from_iter([("tools".to_owned(), json!([weather()]))]);
    for (prompt, extra) in [
        (Prompt::from(vec![Message::user("What is the capital of France?")]), Default::default()),
        (Prompt::from(talk.clone()), Default::default()),
        (Prompt::from(talk), extra),
        (Prompt::from("Übung: 数える  1, 2\n\n<|im_start|>🎉"), Default::default()),
    ] {
        let request = TokenizeRequest { model: vllm.model().into(), prompt, add_special_tokens: true, extra };
        let (theirs, ours) = (theirs.tokenize(request.clone()).await.unwrap(), ours.tokenize(request).await.unwrap());
        assert_eq!((ours.count, &ours.tokens), (theirs.count, &theirs.tokens));
    }
    let tokens = ours.count_tokens("The capital").await.unwrap().tokens;
    assert_eq!(ours.detokenize(tokens).await.unwrap(), "The capital");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_of_the_gateway_that_leaves_stops_the_model() {
    let _turn = TURN.lock().await;
    let vllm = Vllm::chat();
    let house = House::before(vllm.base_url());
    let body = json!({"model": vllm.model(), "stream": true, "max_tokens": 4000, "ignore_eos": true,
        "messages": [{"role": "user", "content": "Count to 80."}]});
    let begin = || http::client().post(format!("{}/v1/chat/completions", house.url())).body(body.to_string()).send();
    for _ in 0..5 {
        let mut stream = begin().await.unwrap().bytes_stream();
        stream.next().await.unwrap().unwrap();
        if !runs(vllm, |n| n >= 1, Duration::from_secs(5)).await {
            continue; // it was over before it was seen: a busy machine
        }
        drop(stream);
        assert!(runs(vllm, |n| n == 0, Duration::from_secs(10)).await, "it goes on for nobody");
        return;
    }
    panic!("five long answers were never seen to run");
}

/// In line, before the first token, and in mid-stream. A busy machine gets five tries at each.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_runs_a_second_after_its_client_has_left_in_any_phase() {
    const SOON: Duration = Duration::from_secs(1);
    let _turn = TURN.lock().await;
    let vllm = Vllm::chat();
    let settings = format!(
        "[models.{}]\nprovider = 'vllm'\nbase_url = '{}'\nqueue = {{ limit = 1 }}",
        vllm.model(),
        vllm.base_url()
    );
    let (house, wide) = (House::of(&settings), House::before(vllm.base_url()));
    let post_to = |house: &House, question: String, tokens: u32| {
        let body = json!({"model": vllm.model(), "stream": true, "max_tokens": tokens, "ignore_eos": true,
            "messages": [{"role": "user", "content": question}]});
        http::client().post(format!("{}/v1/chat/completions", house.url())).body(body.to_string()).send()
    };
    let post = |question: &str| post_to(&house, question.to_owned(), 1500);
    let in_line = || house.gateway.models()[0].waiting;
    let mut held = [false; 3];
    for number in 0..5 {
        // Before the first token: it reads eight long prompts, no two of which begin alike, and some have no headers yet.
        let long = |n: usize| post_to(&wide, format!("{number} {n} {}", "one two three ".repeat(600)), 50);
        let asked: Vec<_> = (0..8).map(|n| tokio::spawn(long(n))).collect();
        if runs(vllm, |n| n >= 1, Duration::from_secs(5)).await {
            let waits = asked.iter().any(|asked| !asked.is_finished());
            asked.iter().for_each(tokio::task::JoinHandle::abort);
            drop(asked); // and the answers that had begun
            held[0] |= waits && runs(vllm, |n| n == 0, SOON).await;
        }
        // In mid-stream, and one behind it in line, which leaves first and is never sent on.
        let mut stream = post("Count to 80.").await.unwrap().bytes_stream();
        stream.next().await.unwrap().unwrap();
        let second = tokio::spawn(post("And then?"));
        let since = Instant::now();
        while in_line() == 0 && since.elapsed() < SOON {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        if in_line() == 1 && vllm.running() == 1 {
            second.abort();
            let since = Instant::now();
            while in_line() > 0 && since.elapsed() < SOON {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            held[1] |= in_line() == 0;
            drop(stream);
            held[2] |= runs(vllm, |n| n == 0, SOON).await;
        }
        if held == [true; 3] {
            return;
        }
        assert!(runs(vllm, |n| n == 0, Duration::from_secs(20)).await, "it goes on for nobody");
    }
    panic!("before the first token, in line, in mid-stream: {held:?}");
}

#[tokio::test]
async fn the_gateway_passes_its_answers_on_and_its_errors_in_one_shape() {
    let _turn = TURN.lock().await;
    let vllm = Vllm::chat();
    let house = House::before(vllm.base_url());
    let ask =
        |path: &str, body: Value| http::client().post(format!("{}{path}", house.url())).body(body.to_string()).send();
    let messages = json!([{"role": "user", "content": "What is the capital of France?"}]);
    let body = json!({"model": vllm.model(), "messages": messages, "temperature": 0});
    let whole: Value =
        serde_json::from_str(&ask("/v1/chat/completions", body).await.unwrap().text().await.unwrap()).unwrap();
    assert_eq!(whole["choices"][0]["message"]["content"], "The capital of France is Paris.");
    assert!(whole["system_fingerprint"].as_str().unwrap().starts_with("vllm"), "its own fields come through");
    let body = json!({"model": vllm.model(), "messages": messages, "temperature": 0, "stream": true});
    let stream = ask("/v1/chat/completions", body).await.unwrap().text().await.unwrap();
    assert!(stream.ends_with("data: [DONE]\n\n") && !stream.contains("\"usage\":{"), "{stream}");
    for (path, body, status, code) in [
        ("/v1/chat/completions", json!({"model": "gpt-9", "messages": messages}), 404, json!("model_not_found")),
        (
            "/v1/chat/completions",
            json!({"model": vllm.model(), "messages": messages, "temperature": 5}),
            400,
            json!(null),
        ),
        (
            "/v1/chat/completions",
            json!({"model": vllm.model(), "messages": [{"role": "user", "content": "x ".repeat(20_000)}]}),
            400,
            json!("context_length_exceeded"),
        ),
        (
            "/v1/chat/completions",
            json!({"model": vllm.model(), "messages": messages, "stream": true, "logprobs": true, "top_logprobs": 50}),
            400,
            json!(null),
        ),
        ("/v1/embeddings", json!({"model": vllm.model(), "input": "x"}), 400, json!("unsupported")),
    ] {
        let response = ask(path, body.clone()).await.unwrap();
        let got = response.status().as_u16();
        let error: Value = serde_json::from_str(&response.text().await.unwrap()).unwrap();
        assert_eq!((got, &error["error"]["code"]), (status, &code), "{path} {error}");
    }
}
