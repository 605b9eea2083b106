//! vLLM's answers, as short as they can be and still be its own.
use serde_json::{Value, json};

use super::wire::{answer, chunk, events_in_chunks};

/// A refusal in vLLM's shape, with its code a number.
pub(super) fn error(message: &str, kind: &str, param: Value, code: u16) -> String {
    json!({"error": {"message": message, "type": kind, "param": param, "code": code}}).to_string()
}

/// A whole answer with this message.
pub(super) fn whole(message: &Value, finish: &str) -> Vec<u8> {
    let choice =
        json!({"index": 0, "message": message, "logprobs": null, "finish_reason": finish, "stop_reason": null});
    let body = json!({
        "id": "chatcmpl-1", "object": "chat.completion", "created": 1_795_269_336, "model": "m", "choices": [choice], "usage": usage(),
    });
    answer("200 OK", "content-type: application/json\r\nconnection: close\r\n", &body.to_string())
}

fn usage() -> Value {
    json!({"prompt_tokens": 18, "total_tokens": 26, "completion_tokens": 8, "prompt_tokens_details": null})
}

/// One event of a stream, with its blank line.
pub(super) fn event(delta: &Value, finish: &Value) -> String {
    let choice = json!({"index": 0, "delta": delta, "logprobs": null, "finish_reason": finish});
    let event = json!({"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1_795_269_336, "model": "m", "choices": [choice]});
    format!("data: {event}\n\n")
}

/// An event that says these words.
pub(super) fn text(words: &str) -> String {
    event(&json!({"content": words}), &Value::Null)
}

/// The event that ends an answer, what it cost, and the last word.
pub(super) fn end(finish: &str) -> String {
    let cost = json!({"id": "chatcmpl-1", "object": "chat.completion.chunk", "choices": [], "usage": usage()});
    format!("{}data: {cost}\n\ndata: [DONE]\n\n", event(&json!({}), &finish.into()))
}

/// A stream of these events in one chunk each.
pub(super) fn streamed<'a>(events: impl IntoIterator<Item = &'a str>) -> Vec<u8> {
    let chunks = events.into_iter().map(chunk).collect::<String>();
    [events_in_chunks(), &chunks].concat().into_bytes()
}

/// Whether this request asks for a stream.
pub(super) fn wants_stream(request: &str) -> bool {
    let body = request.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    serde_json::from_str::<Value>(body).is_ok_and(|asked| asked["stream"] == true)
}

/// This text as an answer to this request, ended for this reason: whole, or a word an event.
pub(super) fn said(words: &str, finish: &str, request: &str) -> Vec<u8> {
    if !wants_stream(request) {
        return whole(&json!({"role": "assistant", "content": words}), finish);
    }
    let events: Vec<String> = words.split_inclusive(' ').map(text).chain([end(finish), String::new()]).collect();
    streamed(events.iter().map(String::as_str))
}
