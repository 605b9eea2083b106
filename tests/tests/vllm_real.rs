//! The SDK and the gateway before real vLLMs: what they answer, refuse, count and stop.
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use llm_core::{
    ChatRequest, CompleteRequest, Config, DetokenizeRequest, EmbedRequest, Event, FinishReason, Kind, Llm, Message,
    Prompt, TokenizeRequest,
};
use llm_tests::house::House;
use llm_tests::http;
use llm_tests::vllm::Vllm;
use serde_json::{Value, json};

/// One story at a time: some count what runs.
static TURN: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

fn text(vllm: &Vllm) -> String {
    format!("[models.'*']\nprovider = 'vllm'\nbase_url = '{}'", vllm.base_url())
}

fn llm(vllm: &Vllm) -> Llm {
    Llm::new(&Config::from_toml(&text(vllm)).unwrap()).unwrap()
}

fn capital() -> ChatRequest {
    ChatRequest::new("What is the capital of France?").temperature(0.0)
}

/// The answer never ends by itself before this many tokens.
fn long() -> ChatRequest {
    ChatRequest::new("Count to 80.").temperature(0.0).max_tokens(1500).extra("ignore_eos", true)
}

#[tokio::test]
async fn it_chats_whole_and_in_pieces() {
    let _turn = TURN.lock().await;
    let llm = llm(Vllm::chat());
    let whole = llm.chat(capital()).await.unwrap();
    assert_eq!(
        (whole.text.as_str(), whole.finish_reason),
        ("The capital of France is Paris.", Some(FinishReason::Stop))
    );
    assert!(whole.usage.unwrap().prompt_tokens > 10);
    let mut stream = llm.stream(capital()).await.unwrap();
    let mut pieces = Vec::new();
    while let Some(event) = stream.next().await.unwrap() {
        pieces.push(event);
    }
    assert!(pieces.iter().filter(|e| matches!(e, Event::Text(_))).count() > 3);
    assert_eq!((stream.so_far().text.as_str(), stream.so_far().usage), (whole.text.as_str(), whole.usage));
    let short = llm.chat(capital().max_tokens(2)).await.unwrap();
    assert_eq!(short.finish_reason, Some(FinishReason::Length));
}

fn weather() -> Value {
    let city =
        json!({"type": "object", "properties": {"city": {"type": "string", "maxLength": 12}}, "required": ["city"]});
    json!({"type": "function", "function": {"name": "get_weather", "description": "Weather in a city", "parameters": city}})
}

#[tokio::test]
async fn it_calls_tools_whole_and_in_pieces() {
    let _turn = TURN.lock().await;
    let llm = llm(Vllm::chat());
    let named = json!({"type": "function", "function": {"name": "get_weather"}});
    for choice in [json!("required"), named] {
        let ask = ChatRequest::new("What is the weather in Paris?")
            .tool(weather())
            .extra("tool_choice", choice)
            .temperature(0.0);
        let whole = llm.chat(ask.clone().max_tokens(200)).await.unwrap();
        assert_eq!(whole.tool_calls.len(), 1, "{whole:?}");
        let call = &whole.tool_calls[0];
        assert_eq!(
            (call.function.name.as_str(), call.kind.as_str(), call.id.is_empty()),
            ("get_weather", "function", false)
        );
        // hermes does not hold the model to the schema, and one so small invents names.
        assert!(
            call.arguments::<Value>().unwrap().is_object() && call.function.arguments.contains("Paris"),
            "{call:?}"
        );
        let mut stream = llm.stream(ask.max_tokens(200)).await.unwrap();
        while stream.next().await.unwrap().is_some() {}
        let pieces = &stream.so_far().tool_calls;
        assert_eq!((pieces.len(), &pieces[0].function.name), (1, &call.function.name));
        assert_eq!(pieces[0].arguments::<Value>().unwrap(), call.arguments::<Value>().unwrap());
    }
}

#[derive(Debug, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Colour {
    Red,
    Green,
}

#[derive(Debug, serde::Deserialize, schemars::JsonSchema)]
struct Thing {
    colour: Colour,
    is_big: bool,
}

#[tokio::test]
async fn it_answers_as_a_rust_type() {
    let _turn = TURN.lock().await;
    let llm = llm(Vllm::chat());
    let thing: Thing = llm.extract(capital().max_tokens(60)).await.unwrap();
    assert!(matches!(thing.colour, Colour::Red | Colour::Green), "{thing:?} {}", thing.is_big);
    // It is the schema that makes it so: without one the same question is answered in words.
    assert!(llm.chat(capital().max_tokens(60)).await.unwrap().json::<Thing>().is_err());
}

#[tokio::test]
async fn it_tells_how_likely_each_token_was() {
    let _turn = TURN.lock().await;
    let llm = llm(Vllm::chat());
    let whole = llm.chat(capital().logprobs(2)).await.unwrap();
    let text: String = whole.logprobs.iter().map(|l| l.token.as_str()).collect();
    assert!(text.starts_with(&whole.text), "{text}");
    assert!(whole.logprobs.iter().all(|l| l.logprob <= 0.0 && l.top_logprobs.len() == 2), "{:?}", whole.logprobs);
    let mut stream = llm.stream(capital().logprobs(2)).await.unwrap();
    while stream.next().await.unwrap().is_some() {}
    assert_eq!(stream.so_far().logprobs.len(), whole.logprobs.len());
}

#[tokio::test]
async fn it_completes_counts_and_lists() {
    let _turn = TURN.lock().await;
    let (llm, vllm) = (llm(Vllm::chat()), Vllm::chat());
    let completion =
        llm.complete(CompleteRequest { prompt: "The capital of".into(), ..Default::default() }).await.unwrap();
    assert!(!completion.text.is_empty());
    let count = llm.count_tokens(vec![Message::user("What is the capital of France?")]).await.unwrap();
    assert_eq!(count.count as u32, llm.chat(capital()).await.unwrap().usage.unwrap().prompt_tokens);
    assert!(count.max_model_len.is_some());
    let plain = TokenizeRequest {
        model: String::new(),
        prompt: Prompt::from("The capital"),
        add_special_tokens: false,
        extra: Default::default(),
    };
    let tokens = llm.tokenize(plain).await.unwrap().tokens;
    let call = llm_core::Call::new(DetokenizeRequest { model: vllm.model().into(), tokens }, llm_core::Delivery::Whole);
    let reply = llm_core::Provider::call(&**llm.gateway(), &call).await.unwrap();
    let text = reply.single(|f| if let llm_core::Frame::Text(t) = f { Some(t) } else { None }).await.unwrap();
    assert_eq!(text, "The capital");
    assert!(llm.health().await.iter().all(|(_, health)| health.is_ok()));
    let models = llm.models();
    assert_eq!(
        (models[0].id.as_str(), models[0].status, models[0].max_model_len),
        (vllm.model(), "ready", count.max_model_len)
    );
}

/// Its own count, and ours from the folder that it serves: conversations with tools, calls and results, and plain texts.
#[tokio::test]
async fn a_tokenizer_at_hand_counts_as_it_does() {
    let _turn = TURN.lock().await;
    let vllm = Vllm::chat();
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/models/tiny-chat");
    let local = format!("{}\ntokenizer = '{folder}'", text(vllm));
    let (theirs, ours) = (llm(vllm), Llm::new(&Config::from_toml(&local).unwrap()).unwrap());
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

#[tokio::test]
async fn a_conversation_is_cut_to_what_it_really_takes() {
    let _turn = TURN.lock().await;
    let llm = llm(Vllm::chat());
    let turn = |i| [Message::user(format!("Question {i}: why?")), Message::assistant("Because. ".repeat(40))];
    let talk: Vec<_> = (0..60).flat_map(turn).chain(capital().messages).collect();
    let request = ChatRequest::from(talk.clone()).temperature(0.0).max_tokens(100);
    assert_eq!(llm.chat(request.clone()).await.unwrap_err().kind(), Kind::ContextLength);
    let cut = llm.truncate(request, None).await.unwrap();
    let (left, window) = (cut.messages.len(), llm.count_tokens("x").await.unwrap().max_model_len.unwrap());
    let answer = llm.chat(cut.clone()).await.unwrap();
    let prompt = answer.usage.unwrap().prompt_tokens;
    assert!(prompt + 100 <= window, "{prompt} and 100 in {window}");
    let more = llm.count_tokens(talk[talk.len() - left - 2..].to_vec()).await.unwrap();
    assert!(more.count + 100 > window as usize, "one turn more would not fit: {} in {window}", more.count);
}

#[tokio::test]
async fn it_embeds_and_what_is_related_is_near() {
    let _turn = TURN.lock().await;
    let texts = ["A cat sits on the mat.", "A cat is sitting on a rug.", "The stock market fell today."];
    let embeddings = llm(Vllm::embed()).embed(EmbedRequest::new(texts)).await.unwrap();
    let near =
        |a: usize, b: usize| embeddings.vectors[a].iter().zip(&embeddings.vectors[b]).map(|(x, y)| x * y).sum::<f32>();
    assert_eq!(embeddings.vectors[0].len(), 384);
    assert!(near(0, 1) > 0.6 && near(0, 2) < 0.2, "{} {}", near(0, 1), near(0, 2));
}

#[tokio::test]
async fn its_refusals_are_understood_and_not_tried_again() {
    let _turn = TURN.lock().await;
    let llm = llm(Vllm::chat());
    for (request, kind, says) in [
        (capital().temperature(5.0), Kind::Invalid, "temperature"),
        (capital().model("gpt-9"), Kind::NotFound, "gpt-9"),
        (ChatRequest::new("x ".repeat(20_000)), Kind::ContextLength, "maximum context length"),
        (ChatRequest::from(vec![]), Kind::Invalid, ""),
    ] {
        let since = Instant::now();
        let error = llm.chat(request).await.unwrap_err();
        assert!(error.kind() == kind && error.message().contains(says), "{error:?}");
        assert!(since.elapsed() < Duration::from_secs(5), "a retry would take longer");
    }
    // A stream's refusal comes inside a 200; it is the call's all the same.
    let error = llm.stream(capital().extra("logprobs", true).extra("top_logprobs", 50)).await.err().unwrap();
    assert_eq!(error.kind(), Kind::Invalid, "{error:?}");
    let error = llm.embed("x").await.unwrap_err();
    assert_eq!(error.kind(), Kind::Unsupported, "{error:?}");
}

fn running(vllm: &Vllm) -> f64 {
    let metrics = http::get(&format!("{}/metrics", vllm.base_url().trim_end_matches("/v1"))).1;
    let line =
        metrics.lines().find(|line| line.starts_with("vllm:num_requests_running")).expect("vLLM tells what runs");
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

/// Polls until as many requests run, for so long at most.
fn until_running(vllm: &Vllm, wanted: impl Fn(f64) -> bool, within: Duration) -> Duration {
    let since = Instant::now();
    while !wanted(running(vllm)) {
        assert!(since.elapsed() < within, "{} requests still run after {within:?}", running(vllm));
    }
    since.elapsed()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dropping_a_stream_or_a_call_stops_the_model() {
    let _turn = TURN.lock().await;
    let (llm, vllm) = (llm(Vllm::chat()), Vllm::chat());
    let mut stream = llm.stream(long()).await.unwrap();
    stream.next_text().await.unwrap();
    until_running(vllm, |n| n >= 1.0, Duration::from_secs(5));
    drop(stream);
    until_running(vllm, |n| n == 0.0, Duration::from_secs(10));
    let whole = tokio::spawn(async move { llm.chat(long()).await });
    until_running(vllm, |n| n >= 1.0, Duration::from_secs(20));
    whole.abort();
    until_running(vllm, |n| n == 0.0, Duration::from_secs(10));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_of_the_gateway_that_leaves_stops_the_model() {
    let _turn = TURN.lock().await;
    let vllm = Vllm::chat();
    let house = House::of(&text(vllm));
    let body = json!({"model": vllm.model(), "stream": true, "max_tokens": 1500, "ignore_eos": true,
        "messages": [{"role": "user", "content": "Count to 80."}]});
    let request = http::client().post(format!("{}/v1/chat/completions", house.url())).body(body.to_string());
    let mut stream = request.send().await.unwrap().bytes_stream();
    stream.next().await.unwrap().unwrap();
    until_running(vllm, |n| n >= 1.0, Duration::from_secs(5));
    drop(stream);
    until_running(vllm, |n| n == 0.0, Duration::from_secs(10));
}

#[tokio::test]
async fn the_gateway_passes_its_answers_on_and_its_errors_in_one_shape() {
    let _turn = TURN.lock().await;
    let vllm = Vllm::chat();
    let house = House::of(&text(vllm));
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
