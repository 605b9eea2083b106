//! vLLM's answers as recorded from 0.32: a chat, its stream, the model list, refusals.

use bytes::Bytes;
use hyper::{Response, StatusCode, header};
use serde_json::{Value, json};

use super::Script;
use super::answer::{Answer, Stream};
use super::seen::Visit;

const WHOLE: &str = r#"{"id":"chatcmpl-b6291d0d2d27de9d","object":"chat.completion","created":1795269336,"model":"tiny","choices":[{"index":0,"message":{"role":"assistant","content":"The capital of France is Paris.","refusal":null,"annotations":null,"audio":null,"function_call":null,"reasoning":null},"logprobs":null,"finish_reason":"stop","stop_reason":null,"token_ids":null,"routed_experts":null}],"service_tier":null,"system_fingerprint":"vllm-0.32.0-1dec3552","usage":{"prompt_tokens":18,"total_tokens":26,"completion_tokens":8,"prompt_tokens_details":null,"completion_tokens_details":null},"prompt_logprobs":null,"prompt_token_ids":null,"prompt_text":null,"kv_transfer_params":null,"ec_transfer_params":null,"metrics":null}"#;

const VECTORS: &str = r#"{"id":"embd-9b2c53a1f4e07d68","object":"list","created":1795269336,"model":"tiny","data":[{"index":0,"object":"embedding","embedding":[0.0125,-0.25,0.5,1.0]}],"usage":{"prompt_tokens":4,"total_tokens":4,"completion_tokens":0,"prompt_tokens_details":null}}"#;

const MODELS: &str = r#"{"object":"list","data":[{"id":"tiny","object":"model","created":1795269336,"owned_by":"vllm","root":"/models/tiny","parent":null,"max_model_len":2048,"permission":[{"id":"modelperm-b80288fdc5780eae","object":"model_permission","created":1795269336,"allow_create_engine":false,"allow_sampling":true,"allow_logprobs":true,"allow_search_indices":false,"allow_view":true,"allow_fine_tuning":false,"organization":"*","group":null,"is_blocking":false}]}]}"#;

/// A chunk of a stream: what all have in common, then its choices and the rest.
macro_rules! chunk {
    ($($rest:literal),+) => {
        concat!(
            r#"data: {"id":"chatcmpl-bc4ae74b47af13b7","object":"chat.completion.chunk","created":1795269336,"model":"tiny","#,
            $($rest,)+
            "}\n\n"
        )
    };
}

macro_rules! token {
    ($word:literal) => {
        chunk!(
            r#""choices":[{"index":0,"delta":{"content":""#,
            $word,
            r#""},"logprobs":null,"finish_reason":null,"token_ids":null}]"#
        )
    };
}

const ROLE: &str = chunk!(
    r#""choices":[{"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}],"prompt_token_ids":null,"prompt_text":null"#
);
const TOKENS: [&str; 8] = [
    token!("The"),
    token!(" capital"),
    token!(" of"),
    token!(" \\\"France\\\""),
    token!(" is"),
    token!(" Paris"),
    token!(",\\n"),
    token!(" caf\u{e9} \u{1f5fc}"),
];
const FINISH: &str = chunk!(
    r#""choices":[{"index":0,"delta":{},"logprobs":null,"finish_reason":"stop","stop_reason":null,"token_ids":null}]"#
);
const USAGE: &str = chunk!(
    r#""choices":[],"usage":{"prompt_tokens":18,"total_tokens":26,"completion_tokens":8},"system_fingerprint":"vllm-0.32.0-1dec3552""#
);
const DONE: &str = "data: [DONE]\n\n";

pub(super) fn whole() -> Response<Answer> {
    json_of(StatusCode::OK, Bytes::from_static(WHOLE.as_bytes()))
}

pub(super) fn vectors() -> Response<Answer> {
    json_of(StatusCode::OK, Bytes::from_static(VECTORS.as_bytes()))
}

/// What a proxy shows when the house behind it is on fire.
pub(super) fn page() -> Response<Answer> {
    with_type("text/html", Answer::Whole(Some(Bytes::from_static(b"<html><h1>It works!</h1></html>"))))
}

pub(super) fn models() -> Response<Answer> {
    json_of(StatusCode::OK, Bytes::from_static(MODELS.as_bytes()))
}

pub(super) fn health() -> Response<Answer> {
    Response::new(Answer::Whole(None))
}

pub(super) fn not_found() -> Response<Answer> {
    json_of(StatusCode::NOT_FOUND, Bytes::from_static(br#"{"detail":"Not Found"}"#))
}

pub(super) fn bad_request(message: &str) -> Response<Answer> {
    error(StatusCode::BAD_REQUEST, message, "BadRequestError")
}

pub(super) fn refusal(script: &Script) -> Response<Answer> {
    let status = StatusCode::from_u16(script.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = error(status, "refused, as the request wished", "ScriptedError");
    let later = script.retry_after.map(|seconds| (header::RETRY_AFTER, header::HeaderValue::from(seconds)));
    response.headers_mut().extend(later);
    response
}

pub(super) fn streamed(script: Script, visit: Visit) -> Response<Answer> {
    let answer = Answer::Stream(Box::new(Stream::new(script, visit)));
    with_type("text/event-stream; charset=utf-8", answer)
}

/// The event at a place of the stream: the role, the tokens, the finish, the usage if wanted, the end.
pub(super) fn event(script: &Script, at: usize) -> Option<Bytes> {
    let usage = script.usage.then_some(USAGE);
    let text = match at.checked_sub(script.chunks + 1) {
        None if at == 0 => ROLE,
        None => TOKENS[at % TOKENS.len()],
        Some(rest) => [FINISH].into_iter().chain(usage).chain([DONE]).nth(rest)?,
    };
    Some(Bytes::from_static(text.as_bytes()))
}

/// Why vLLM would answer 400, if it would.
pub(super) fn problem(body: &[u8]) -> Option<String> {
    let value: Value = match serde_json::from_slice(body) {
        Ok(value) => value,
        Err(error) => return Some(format!("There was an error parsing the body: {error}")),
    };
    let is_message = |message: &Value| {
        message["role"].is_string() && (message["content"].is_string() || message["content"].is_array())
    };
    let is_chat =
        value["messages"].as_array().is_some_and(|messages| !messages.is_empty() && messages.iter().all(is_message));
    let numbers = ["temperature", "max_tokens", "top_p", "n", "seed", "frequency_penalty", "presence_penalty"];
    let is_number = |name: &str| matches!(&value[name], Value::Null | Value::Number(_));
    let is_flag = matches!(&value["stream"], Value::Null | Value::Bool(_));
    let all_right = is_chat && is_flag && numbers.iter().all(|name| is_number(name));
    (!all_right).then(|| "1 validation error: Input should be valid".to_owned())
}

fn error(status: StatusCode, message: &str, kind: &str) -> Response<Answer> {
    let body = json!({"error": {"message": message, "type": kind, "param": null, "code": status.as_u16()}});
    json_of(status, Bytes::from(body.to_string()))
}

fn json_of(status: StatusCode, body: Bytes) -> Response<Answer> {
    let mut response = with_type("application/json", Answer::Whole(Some(body)));
    *response.status_mut() = status;
    response
}

fn with_type(kind: &'static str, answer: Answer) -> Response<Answer> {
    let mut response = Response::new(answer);
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
    response.headers_mut().insert(header::SERVER, header::HeaderValue::from_static("uvicorn"));
    response
}
