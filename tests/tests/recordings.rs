//! What real servers said, again: every recording through the provider `replay`, and over a socket through a host.
use std::path::{Path, PathBuf};

use futures_util::StreamExt;
use llm_core::provider::replay::Recording;
use llm_core::testkit::{Mock, answer, chunk, events_in_chunks};
use llm_core::{
    Call, ChatReply, ChatRequest, CompleteRequest, Config, Delivery, DetokenizeRequest, Error, Event, FinishReason,
    Frame, Kind, Llm, Message, Prompt, Provider, TokenizeRequest,
};
use serde_json::{Value, json};

const SERVERS: [&str; 2] = ["vllm", "llama-server"];
const PARIS: &str = "The capital of France is Paris.";

fn recordings(server: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("recordings").join(server)
}

fn replay(recordings: &Path) -> Llm {
    let settings = format!(
        "retry = {{ max_retries = 0 }}\n[models.tiny]\nprovider = 'replay'\nrecordings = '{}'",
        recordings.display()
    );
    Llm::new(&Config::from_toml(&settings).unwrap()).unwrap()
}

fn recording(server: &str, name: &str) -> Recording {
    let text = std::fs::read(recordings(server).join(name).with_extension("txt")).unwrap();
    Recording::read(name, &String::from_utf8_lossy(&text)).unwrap()
}

/// A server that says what was recorded, in chunks if it was a stream.
async fn server(recording: &Recording) -> Mock {
    let body = String::from_utf8(recording.body.to_vec()).unwrap();
    let kind = recording.header("content-type").unwrap_or_default();
    if kind.starts_with("text/event-stream") {
        let chunks: String = body.split_inclusive("\n\n").map(chunk).collect();
        return Mock::answering([events_in_chunks(), &chunks, &chunk("\n\n"), &chunk("")].concat()).await;
    }
    Mock::answering(answer(&format!("{} x", recording.status), &format!("content-type: {kind}\r\n"), &body)).await
}

fn host(server: &Mock) -> Llm {
    let settings =
        format!("retry = {{ max_retries = 0 }}\n[models.tiny]\nprovider = 'vllm'\nbase_url = '{}'", server.url());
    Llm::new(&Config::from_toml(&settings).unwrap()).unwrap()
}

async fn streamed(llm: &Llm, request: ChatRequest) -> Result<ChatReply, Error> {
    let mut stream = llm.stream(request).await?;
    while stream.next().await?.is_some() {}
    Ok(stream.so_far().clone())
}

fn paris() -> ChatRequest {
    ChatRequest::new("What is the capital of France?").temperature(0.0)
}

fn weather() -> ChatRequest {
    let tool = json!({"type": "function", "function": {"name": "get_weather", "description": "d", "parameters": {
        "type": "object", "properties": {"location": {"type": "string"}}, "required": ["location"]}}});
    ChatRequest { tools: vec![tool], ..ChatRequest::new("What is the weather in Paris?").temperature(0.0) }
}

#[tokio::test]
async fn a_text_is_the_same_whole_and_streamed_and_its_cost_is_told() {
    for server in SERVERS {
        let llm = replay(&recordings(server));
        for reply in [llm.chat(paris()).await.unwrap(), streamed(&llm, paris()).await.unwrap()] {
            let usage = reply.usage.unwrap();
            assert_eq!((reply.text.as_str(), reply.finish_reason), (PARIS, Some(FinishReason::Stop)), "{server}");
            assert_eq!((usage.prompt_tokens, usage.completion_tokens), (18, 8), "{server}");
        }
        let short = llm.chat(paris().max_tokens(3)).await.unwrap();
        assert_eq!(
            (short.text.as_str(), short.finish_reason),
            ("The capital of", Some(FinishReason::Length)),
            "{server}"
        );
    }
}

#[tokio::test]
async fn usage_with_every_chunk_is_read_as_the_last_word_on_it() {
    for server in SERVERS {
        let llm = replay(&recordings(server));
        let every = paris().extra("stream_options", json!({"include_usage": true, "continuous_usage_stats": true}));
        let reply = streamed(&llm, every).await.unwrap();
        assert_eq!((reply.text.as_str(), reply.usage.unwrap().completion_tokens), (PARIS, 8), "{server}");
    }
}

/// The one call that a reply wants made: its name and arguments.
fn called(reply: &ChatReply) -> (String, Value) {
    let calls = serde_json::to_value(&reply.tool_calls).unwrap();
    assert!(
        calls.as_array().unwrap().len() == 1 && calls[0]["id"].as_str().is_some_and(|id| !id.is_empty()),
        "{calls}"
    );
    let function = &calls[0]["function"];
    let arguments = function["arguments"].as_str().expect("arguments are JSON in a string");
    (function["name"].as_str().unwrap().to_owned(), serde_json::from_str(arguments).unwrap())
}

#[tokio::test]
async fn tools_are_called_whether_free_required_or_named_whole_or_streamed() {
    let named = json!({"type": "function", "function": {"name": "get_weather"}});
    for server in SERVERS {
        let llm = replay(&recordings(server));
        let replies = [
            ("auto", llm.chat(weather()).await.unwrap()),
            ("auto, streamed", streamed(&llm, weather()).await.unwrap()),
            ("required", llm.chat(weather().extra("tool_choice", "required")).await.unwrap()),
            ("named, streamed", streamed(&llm, weather().extra("tool_choice", named.clone())).await.unwrap()),
        ];
        for (how, reply) in replies {
            let (name, arguments) = called(&reply);
            assert_eq!(name, "get_weather", "{server}, {how}");
            assert!(
                arguments.as_object().unwrap().values().any(|value| value == "Paris"),
                "{server}, {how}: {arguments}"
            );
            assert!(reply.finish_reason.is_some() && reply.text.is_empty(), "{server}, {how}: {reply:?}");
        }
    }
}

#[tokio::test]
async fn an_answer_in_a_schema_is_json() {
    let schema = json!({"type": "json_schema", "json_schema": {"name": "x", "schema": {
        "type": "object", "properties": {"c": {"enum": ["red", "green"]}}, "required": ["c"]}}});
    for server in SERVERS {
        let reply = replay(&recordings(server)).chat(paris().extra("response_format", schema.clone())).await.unwrap();
        let answer: Value = serde_json::from_str(&reply.text).unwrap();
        assert!(["red", "green"].contains(&answer["c"].as_str().unwrap()), "{server}: {answer}");
    }
}

#[tokio::test]
async fn log_probabilities_come_with_the_words() {
    for server in SERVERS {
        let llm = replay(&recordings(server));
        let call = Call::new(
            paris().model("tiny").max_tokens(3).extra("logprobs", true).extra("top_logprobs", 2),
            Delivery::Whole,
        );
        let mut frames = llm.gateway().call(&call).await.unwrap().events();
        let mut seen = None;
        while let Some(frame) = frames.next().await {
            if let Frame::Event(Event::Logprobs(logprobs)) = frame.unwrap() {
                seen = Some(serde_json::to_value(logprobs).unwrap());
            }
        }
        let seen = seen.expect("logprobs");
        assert_eq!(seen["content"][0]["token"], "The", "{server}");
        assert_eq!(seen["content"].as_array().unwrap().len(), 3, "{server}");
    }
}

#[tokio::test]
async fn texts_are_continued() {
    for server in SERVERS {
        let llm = replay(&recordings(server));
        let mut request = CompleteRequest { model: "tiny".into(), ..CompleteRequest::new("Hello") };
        (request.sampling.max_tokens, request.sampling.temperature) = (Some(4), Some(0.0));
        request.extra.insert("logprobs".into(), 1.into());
        let reply = llm.complete(request).await.unwrap();
        assert!(!reply.text.is_empty() && reply.finish_reason.is_some(), "{server}: {reply:?}");
    }
}

#[tokio::test]
async fn tokens_are_counted_and_become_text_again() {
    let llm = replay(&recordings("vllm"));
    let request = TokenizeRequest {
        model: "tiny".into(),
        prompt: Prompt::Chat(vec![Message::user("What is the capital of France?")]),
        add_special_tokens: true,
        extra: serde_json::Map::from_iter([("return_token_strs".to_owned(), true.into())]),
    };
    let tokens = llm.tokenize(request).await.unwrap();
    assert_eq!((tokens.count, tokens.tokens.len(), tokens.max_model_len), (18, 18, Some(2048)));
    let call = Call::new(DetokenizeRequest { model: "tiny".into(), tokens: vec![5, 6, 7] }, Delivery::Whole);
    let reply = llm.gateway().call(&call).await.unwrap();
    let text = reply.single(|frame| if let Frame::Text(text) = frame { Some(text) } else { None }).await.unwrap();
    assert_eq!(text, "&'(");
}

/// A server, a recording, and the kind, the code and the field of its error.
type Refusal = (&'static str, &'static str, Kind, Option<&'static str>, Option<&'static str>);

/// Every refusal that was recorded, and what a caller must be able to tell from it.
const REFUSALS: &[Refusal] = &[
    ("vllm", "err_404", Kind::Unsupported, Some("unsupported"), None),
    ("vllm", "err_405", Kind::Invalid, None, None),
    ("vllm", "err_ctx", Kind::ContextLength, Some("context_length_exceeded"), Some("input_text")),
    ("vllm", "err_embeddings", Kind::Unsupported, Some("unsupported"), None),
    ("vllm", "err_json", Kind::Invalid, None, Some("body.9")),
    ("vllm", "err_maxtok", Kind::ContextLength, Some("context_length_exceeded"), Some("max_tokens")),
    ("vllm", "err_model", Kind::NotFound, Some("model_not_found"), Some("model")),
    ("vllm", "err_stream_logprobs", Kind::Invalid, None, Some("logprobs")),
    ("vllm", "err_type", Kind::Invalid, None, Some("body.messages")),
    ("vllm", "err_utf8", Kind::Invalid, None, None),
    ("vllm", "err_validation", Kind::Invalid, None, Some("temperature")),
    ("llama-server", "err_404", Kind::NotFound, None, None),
    ("llama-server", "err_405", Kind::NotFound, None, None),
    ("llama-server", "err_ctx", Kind::ContextLength, Some("context_length_exceeded"), None),
    ("llama-server", "err_embeddings", Kind::Unsupported, Some("unsupported"), None),
    // What it says of broken JSON is that it has failed itself: a house checks the JSON before.
    ("llama-server", "err_json", Kind::Upstream, None, None),
    ("llama-server", "err_type", Kind::Invalid, None, None),
    ("llama-server", "err_utf8", Kind::Upstream, None, None),
];
/// It answers these, and the names say what vLLM does.
const ANSWERS: &[&str] = &["err_maxtok", "err_model", "err_validation"];

#[tokio::test]
async fn every_refusal_has_its_kind_its_code_and_its_field() {
    for (of, name, kind, code, param) in REFUSALS {
        let file = recordings(of).join(name).with_extension("txt");
        let server = server(&recording(of, name)).await;
        for (how, llm) in [("replayed", replay(&file)), ("over a socket", host(&server))] {
            for error in [llm.chat("?").await.unwrap_err(), streamed(&llm, "?".into()).await.unwrap_err()] {
                assert_eq!(error.kind(), *kind, "{of}/{name} {how}: {error:?}");
                assert_eq!((error.get_code(), error.get_param()), (*code, *param), "{of}/{name} {how}: {error:?}");
                assert!(!error.message().is_empty() && !error.message().contains("HTTP"), "{of}/{name} {how}: {error}");
            }
        }
    }
}

#[tokio::test]
async fn no_refusal_is_forgotten() {
    for server in SERVERS {
        for entry in std::fs::read_dir(recordings(server)).unwrap() {
            let name = entry.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned();
            let is_listed = REFUSALS.iter().any(|row| row.0 == server && row.1 == name);
            let is_answer = server == "llama-server" && ANSWERS.contains(&name.as_str());
            assert!(!name.starts_with("err_") || is_listed != is_answer, "{server}/{name}");
        }
    }
    for name in ANSWERS {
        let file = recordings("llama-server").join(name).with_extension("txt");
        assert_eq!(replay(&file).chat("?").await.unwrap().text, PARIS);
    }
}

#[tokio::test]
async fn streams_over_a_socket_are_the_streams_that_were_replayed() {
    for of in SERVERS {
        for name in [
            "chat_stream",
            "chat_stream_usage",
            "chat_stream_cont_usage",
            "chat_tools_auto_stream",
            "chat_tools_named_stream",
        ] {
            let file = recordings(of).join(name).with_extension("txt");
            let server = server(&recording(of, name)).await;
            let there = streamed(&host(&server), "?".into()).await.unwrap();
            let here = streamed(&replay(&file), "?".into()).await.unwrap();
            assert_eq!(
                (&here.text, here.usage, &here.finish_reason),
                (&there.text, there.usage, &there.finish_reason),
                "{of}/{name}"
            );
            assert_eq!(
                serde_json::to_value(&here.tool_calls).unwrap(),
                serde_json::to_value(&there.tool_calls).unwrap(),
                "{of}/{name}"
            );
            assert!(!here.text.is_empty() || !here.tool_calls.is_empty(), "{of}/{name}");
        }
    }
}
