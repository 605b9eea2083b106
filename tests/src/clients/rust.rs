//! async-openai's stories, told as the programs in other languages tell theirs: its own types read every answer.

use std::pin::Pin;
use std::time::{Duration, Instant};

use async_openai::config::OpenAIConfig;
use async_openai::error::{ApiErrorResponse, OpenAIError};
use async_openai::types::chat::{
    ChatCompletionMessageToolCallChunk, CreateChatCompletionRequest, CreateChatCompletionResponse,
    CreateChatCompletionStreamResponse, FinishReason,
};
use async_openai::types::embeddings::CreateEmbeddingRequest;
use async_openai::types::stream::StreamResponse;
use futures_util::{StreamExt, future};
use serde_json::{Value, json};

use super::KEY;
use crate::http;

type Ai = async_openai::Client<OpenAIConfig>;
type Chunk = CreateChatCompletionStreamResponse;
type Story = (&'static str, fn(Ai) -> Pin<Box<dyn Future<Output = ()> + Send>>);

macro_rules! stories {
    ($($name:ident),+ $(,)?) => { &[$((stringify!($name), |ai| Box::pin($name(ai)))),+] };
}

const ALL: &[Story] = stories![
    chat_whole,
    chat_streamed_with_usage,
    stream_without_usage,
    stream_left_early,
    tools_in_fragments,
    structured_output,
    embeddings,
    models,
    completion,
    wrong_key,
    unknown_model,
    bad_temperature,
    loading_model,
    full_line,
    error_in_stream,
    cut_stream,
];

/// For all stories.
const LONGEST: Duration = Duration::from_secs(60);

/// What async-openai sees of the server whose API begins there, a line a story.
pub async fn async_openai(base_url: &str) -> Vec<String> {
    let told = ALL.iter().map(|&(name, story)| tell(name, tokio::spawn(story(client(base_url, KEY)))));
    tokio::time::timeout(LONGEST, future::join_all(told)).await.expect("the stories end")
}

async fn tell(name: &str, story: tokio::task::JoinHandle<()>) -> String {
    match story.await {
        Ok(()) => format!("ok {name}"),
        Err(why) => format!("FAILED {name}: {why}"),
    }
}

fn client(base_url: &str, key: &str) -> Ai {
    Ai::build(http::client(), OpenAIConfig::new().with_api_base(base_url).with_api_key(key))
}

fn question(model: &str, more: Value) -> CreateChatCompletionRequest {
    let mut question = json!({
        "model": model, "temperature": 0, "messages": [{"role": "user", "content": "What is the capital of France?"}],
    });
    let more = more.as_object().cloned().unwrap_or_default();
    question.as_object_mut().expect("it is one").extend(more);
    serde_json::from_value(question).expect("async-openai knows these fields")
}

async fn ask(ai: &Ai, model: &str, more: Value) -> Result<CreateChatCompletionResponse, OpenAIError> {
    ai.chat().create(question(model, more)).await
}

async fn stream(ai: &Ai, model: &str, more: Value) -> StreamResponse<Chunk> {
    ai.chat().create_stream(question(model, more)).await.unwrap()
}

/// What the models `long` and `line` are told by.
fn endless() -> Value {
    json!({"user": "chunks=100000 every_ms=20"})
}

/// Every chunk of a stream that ends well.
async fn chunks(stream: StreamResponse<Chunk>) -> Vec<Chunk> {
    stream.map(Result::unwrap).collect().await
}

fn said(chunks: &[Chunk]) -> String {
    chunks.iter().flat_map(|chunk| &chunk.choices).filter_map(|choice| choice.delta.content.as_deref()).collect()
}

fn text(answer: &CreateChatCompletionResponse) -> &str {
    answer.choices[0].message.content.as_deref().unwrap_or_default()
}

#[track_caller]
fn refused<T: std::fmt::Debug>(answer: Result<T, OpenAIError>) -> ApiErrorResponse {
    match answer {
        Err(OpenAIError::ApiError(error)) => error,
        other => panic!("no error of the API: {other:?}"),
    }
}

async fn chat_whole(ai: Ai) {
    let answer = ask(&ai, "chat", json!({})).await.unwrap();
    assert!(text(&answer).contains("Paris"), "{answer:?}");
    assert_eq!(answer.choices[0].finish_reason, Some(FinishReason::Stop));
    let usage = answer.usage.unwrap();
    assert!(usage.completion_tokens > 0 && usage.total_tokens == usage.prompt_tokens + usage.completion_tokens);
}

async fn chat_streamed_with_usage(ai: Ai) {
    let all = chunks(stream(&ai, "chat", json!({"stream_options": {"include_usage": true}})).await).await;
    let (last, rest) = all.split_last().unwrap();
    assert!(said(rest).contains("Paris") && rest.iter().all(|chunk| chunk.usage.is_none()), "{rest:?}");
    assert_eq!(rest.last().unwrap().choices[0].finish_reason, Some(FinishReason::Stop));
    assert!(last.choices.is_empty() && last.usage.as_ref().unwrap().completion_tokens > 0, "{last:?}");
}

async fn stream_without_usage(ai: Ai) {
    let all = chunks(stream(&ai, "chat", json!({})).await).await;
    assert!(said(&all).contains("Paris"), "{all:?}");
    assert!(all.iter().all(|chunk| chunk.choices.len() == 1 && chunk.usage.is_none()), "{all:?}");
}

/// The model answers one at a time: the next waits until the server has noticed that the first has left.
async fn stream_left_early(ai: Ai) {
    let mut left = stream(&ai, "long", endless()).await;
    left.next().await.unwrap().unwrap();
    let mut next = Box::pin(ask(&ai, "long", json!({})));
    let early = tokio::time::timeout(Duration::from_millis(200), &mut next).await;
    assert!(early.is_err(), "the stream should hold the only turn: {early:?}");
    drop(left);
    let answer = tokio::time::timeout(Duration::from_secs(10), next).await.expect("the turn is free").unwrap();
    assert!(text(&answer).contains("Paris"));
}

async fn tools_in_fragments(ai: Ai) {
    let city =
        json!({"type": "object", "properties": {"city": {"type": "string", "maxLength": 12}}, "required": ["city"]});
    let function = json!({"name": "get_weather", "description": "Weather in a city", "parameters": city});
    let more = json!({
        "messages": [{"role": "user", "content": "What is the weather in Paris?"}], "max_tokens": 200,
        "tools": [{"type": "function", "function": function}], "tool_choice": "required",
    });
    let all = chunks(stream(&ai, "tools", more).await).await;
    assert_eq!(all.iter().flat_map(|c| &c.choices).find_map(|c| c.finish_reason), Some(FinishReason::ToolCalls));
    let calls = || all.iter().flat_map(|chunk| &chunk.choices).filter_map(|choice| choice.delta.tool_calls.as_ref());
    let (id, name, arguments) = calls().flatten().fold(Default::default(), assembled);
    assert!(!id.is_empty() && name == "get_weather", "{id} {name}");
    let arguments: Value = serde_json::from_str(&arguments).unwrap();
    assert!(arguments.as_object().unwrap().values().any(|value| value == "Paris"), "{arguments}");
}

/// The one call that there is, a fragment longer.
fn assembled(call: (String, String, String), more: &ChatCompletionMessageToolCallChunk) -> (String, String, String) {
    assert_eq!(more.index, 0);
    let (id, name, arguments) = call;
    let function = more.function.clone().unwrap_or_default();
    let longer = |text: String, more: Option<String>| text + &more.unwrap_or_default();
    (longer(id, more.id.clone()), longer(name, function.name), longer(arguments, function.arguments))
}

async fn structured_output(ai: Ai) {
    let schema = json!({"type": "object", "properties": {"c": {"enum": ["red", "green"]}}, "required": ["c"], "additionalProperties": false});
    let format = json!({"type": "json_schema", "json_schema": {"name": "Thing", "strict": true, "schema": schema}});
    let answer = ask(&ai, "structured", json!({"response_format": format})).await.unwrap();
    let thing: Value = serde_json::from_str(text(&answer)).unwrap();
    assert!(["red", "green"].contains(&thing["c"].as_str().unwrap()), "{thing}");
}

async fn embeddings(ai: Ai) {
    let request = |format: &str| -> CreateEmbeddingRequest {
        let input = ["the cat sat on the mat", "stock markets fell today"];
        serde_json::from_value(json!({"model": "embed", "input": input, "encoding_format": format})).unwrap()
    };
    let plain = ai.embeddings().create(request("float")).await.unwrap();
    let packed = ai.embeddings().create_base64(request("base64")).await.unwrap();
    assert!(plain.usage.prompt_tokens > 0);
    assert_eq!(plain.data.iter().map(|item| item.index).collect::<Vec<_>>(), [0, 1]);
    for (plain, packed) in plain.data.iter().zip(packed.data) {
        let unpacked: Vec<f32> = packed.embedding.into();
        assert!(plain.embedding.len() > 4 && unpacked.len() == plain.embedding.len());
        assert!(unpacked.iter().zip(&plain.embedding).all(|(a, b)| (a - b).abs() < 1e-5));
    }
    assert_ne!(plain.data[0].embedding, plain.data[1].embedding);
}

async fn models(ai: Ai) {
    let listed = ai.models().list().await.unwrap().data;
    assert!(["chat", "embed"].iter().all(|id| listed.iter().any(|model| model.id == *id)), "{listed:?}");
    assert!(listed.iter().all(|model| model.created > 0 && !model.owned_by.is_empty()), "{listed:?}");
    assert_eq!(ai.models().retrieve("chat").await.unwrap().id, "chat");
    let error = refused(ai.models().retrieve("gpt-9").await);
    assert_eq!((error.status_code.as_u16(), error.api_error.code.as_deref()), (404, Some("model_not_found")));
}

async fn completion(ai: Ai) {
    let request = json!({"model": "chat", "prompt": "The capital of France is", "max_tokens": 8});
    let answer = ai.completions().create(serde_json::from_value(request).unwrap()).await.unwrap();
    assert_eq!(answer.object, "text_completion");
    assert!(!answer.choices[0].text.is_empty() && answer.usage.unwrap().completion_tokens > 0);
}

async fn wrong_key(ai: Ai) {
    let stranger = client(async_openai::config::Config::api_base(ai.config()), "sk-wrong");
    let error = refused(ask(&stranger, "chat", json!({})).await);
    assert_eq!((error.status_code.as_u16(), error.api_error.code.as_deref()), (401, Some("invalid_api_key")));
}

async fn unknown_model(ai: Ai) {
    let error = refused(ask(&ai, "gpt-9", json!({})).await);
    assert_eq!((error.status_code.as_u16(), error.api_error.param.as_deref()), (404, Some("model")));
    assert!(error.api_error.message.contains("gpt-9"), "{error}");
}

async fn bad_temperature(ai: Ai) {
    let error = refused(ask(&ai, "chat", json!({"temperature": 9})).await);
    assert_eq!((error.status_code.as_u16(), error.api_error.param.as_deref()), (400, Some("temperature")));
}

/// It tries again by itself, after as long as the server says. Of a 5xx it keeps the body as text.
async fn loading_model(ai: Ai) {
    let since = Instant::now();
    let error = refused(ask(&ai, "loading", json!({})).await);
    assert!(error.status_code == 503 && error.api_error.message.contains("model_loading"), "{error}");
    assert!(since.elapsed() >= Duration::from_secs(1), "{:?}", since.elapsed());
}

/// Its retries cannot be switched off, so that it was refused is seen by the time it took: the turn is free after half of that.
async fn full_line(ai: Ai) {
    let running = stream(&ai, "line", endless()).await;
    let since = Instant::now();
    let mut next = Box::pin(ask(&ai, "line", json!({})));
    let early = tokio::time::timeout(Duration::from_millis(500), &mut next).await;
    assert!(early.is_err(), "the stream should hold the only turn: {early:?}");
    drop(running);
    assert!(text(&next.await.unwrap()).contains("Paris"));
    assert!(since.elapsed() >= Duration::from_secs(1), "{:?}", since.elapsed());
}

async fn error_in_stream(ai: Ai) {
    let (text, error) = broken(&ai, "failing").await;
    assert!(text == "half" && error.contains("the engine died"), "{text:?} {error}");
}

/// async-openai does not notice that a stream has no end: the server must tell it.
async fn cut_stream(ai: Ai) {
    let (text, error) = broken(&ai, "cut").await;
    assert!(text == "half" && error.contains("stream_truncated"), "{text:?} {error}");
}

/// What a stream said before its error, and that.
async fn broken(ai: &Ai, model: &str) -> (String, String) {
    let mut stream = stream(ai, model, json!({})).await;
    let mut all = Vec::new();
    loop {
        match stream.next().await {
            Some(Ok(chunk)) => all.push(chunk),
            Some(Err(error)) => return (said(&all), error.to_string()),
            None => panic!("the stream ends as if all were well: {all:?}"),
        }
    }
}
