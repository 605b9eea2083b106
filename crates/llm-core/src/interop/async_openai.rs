//! async-openai's chat and embedding types, both ways. What its closed enums have no word for becomes the nearest one.
//!
//! Conversions are `TryFrom` because each side can say what the other has no word for: their requests may hold what the house
//! refuses (no message, a temperature of 3), ours what their types cannot (a part of a new kind, an image to embed). Their
//! vectors alone are always ours, and that is `From`.
use std::time::{SystemTime, UNIX_EPOCH};

use async_openai::types::chat::{CreateChatCompletionRequest, CreateChatCompletionResponse};
use async_openai::types::embeddings::{CreateEmbeddingRequest, CreateEmbeddingResponse};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::call::*;
use crate::dialect;
use crate::error::{Error, Kind, Result};

fn request(operation: Operation, theirs: &impl Serialize) -> Result<Request> {
    let json = serde_json::to_vec(theirs).map_err(|e| Error::invalid("the request cannot be JSON").because(e))?;
    dialect::openai().read(operation, &json, &mut Vec::new())
}

/// As OpenAI writes it. Their types want a model named, and no name is the default one here.
fn written(request: impl Into<Request>) -> Result<Value> {
    let bytes = dialect::openai().write(&Call::new(request, Delivery::Whole))?;
    let mut json: Value = serde_json::from_slice(&bytes).map_err(|e| Error::invalid("no JSON").because(e))?;
    if let Value::Object(fields) = &mut json {
        fields.entry("model").or_insert_with(|| "".into());
    }
    Ok(json)
}

fn theirs<T: DeserializeOwned>(json: Value) -> Result<T> {
    serde_json::from_value(json).map_err(|e| Error::new(Kind::Upstream, "async-openai has no type for this").because(e))
}

/// A request with all its fields: their types leave out what they do not know, and say nothing.
fn whole<T: DeserializeOwned + Serialize>(ours: Value) -> Result<T> {
    let request: T = theirs(ours.clone()).map_err(|error| error.as_kind(Kind::Unsupported))?;
    let kept = serde_json::to_value(&request).map_err(|e| Error::invalid("no JSON").because(e))?;
    match lost(&ours, &kept) {
        None => Ok(request),
        Some(field) => {
            let message = format!("async-openai has no field `{field}`");
            Err(Error::new(Kind::Unsupported, message).param(field))
        }
    }
}

/// The place of the first field that is ours alone.
fn lost(ours: &Value, kept: &Value) -> Option<String> {
    let inside = |name: String, value: &Value, there: Option<&Value>| match there {
        _ if value.is_null() => None,
        None => Some(name),
        Some(there) => lost(value, there).map(|inner| format!("{name}.{inner}")),
    };
    match (ours, kept) {
        (Value::Object(ours), Value::Object(_)) => {
            ours.iter().find_map(|(name, value)| inside(name.clone(), value, kept.get(name)))
        }
        (Value::Array(ours), Value::Array(_)) => {
            ours.iter().enumerate().find_map(|(i, value)| inside(i.to_string(), value, kept.get(i)))
        }
        _ => None,
    }
}

/// ```
/// use async_openai::types::chat::{ChatCompletionRequestUserMessageArgs, CreateChatCompletionRequestArgs};
/// let user = ChatCompletionRequestUserMessageArgs::default().content("Why is the sky blue?").build().unwrap();
/// let theirs = CreateChatCompletionRequestArgs::default().model("coder").messages([user.into()]).build().unwrap();
/// let ours = llm_core::ChatRequest::try_from(theirs).unwrap();
/// assert_eq!((ours.model.as_str(), ours.last_text().as_str()), ("coder", "Why is the sky blue?"));
/// ```
impl TryFrom<CreateChatCompletionRequest> for ChatRequest {
    type Error = Error;

    fn try_from(theirs: CreateChatCompletionRequest) -> Result<ChatRequest> {
        match request(Operation::Chat, &theirs)? {
            Request::Chat(request) => Ok(request),
            _ => unreachable!("a chat was read"),
        }
    }
}

impl TryFrom<ChatRequest> for CreateChatCompletionRequest {
    type Error = Error;

    fn try_from(ours: ChatRequest) -> Result<CreateChatCompletionRequest> {
        whole(written(ours)?)
    }
}

impl TryFrom<CreateEmbeddingRequest> for EmbedRequest {
    type Error = Error;

    fn try_from(theirs: CreateEmbeddingRequest) -> Result<EmbedRequest> {
        match request(Operation::Embed, &theirs)? {
            Request::Embed(request) => Ok(request),
            _ => unreachable!("an embedding was read"),
        }
    }
}

impl TryFrom<EmbedRequest> for CreateEmbeddingRequest {
    type Error = Error;

    fn try_from(ours: EmbedRequest) -> Result<CreateEmbeddingRequest> {
        whole(written(ours)?)
    }
}

impl TryFrom<ChatReply> for CreateChatCompletionResponse {
    type Error = Error;

    fn try_from(ours: ChatReply) -> Result<CreateChatCompletionResponse> {
        let created = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
        let text = |field: &str| ours.extra.get(field).and_then(Value::as_str);
        let message = json!({"role": "assistant", "content": ours.message().content, "refusal": text("refusal"),
            "tool_calls": (!ours.tool_calls.is_empty()).then_some(&ours.tool_calls)});
        let logprobs = (!ours.logprobs.is_empty()).then(|| json!({"content": ours.logprobs}));
        let reason = ours.finish_reason.as_ref().map(|reason| match reason {
            FinishReason::Other(_) => "stop",
            known => known.as_str(),
        });
        theirs(json!({
            "id": ours.id, "object": "chat.completion", "created": created, "model": ours.model,
            "choices": [{"index": 0, "message": message, "finish_reason": reason, "logprobs": logprobs}],
            "usage": ours.usage.map(cost), "system_fingerprint": text("system_fingerprint"),
        }))
    }
}

impl TryFrom<CreateChatCompletionResponse> for ChatReply {
    type Error = Error;

    fn try_from(theirs: CreateChatCompletionResponse) -> Result<ChatReply> {
        let json = serde_json::to_vec(&theirs).map_err(|e| Error::invalid("no JSON").because(e))?;
        let (mut reader, mut frames, mut reply) = (dialect::openai().reader(), Vec::new(), ChatReply::default());
        reader.read(&json, &mut frames)?;
        for frame in frames {
            if let Frame::Event(event) = frame {
                reply.add(event);
            }
        }
        Ok(reply)
    }
}

impl TryFrom<Embeddings> for CreateEmbeddingResponse {
    type Error = Error;

    fn try_from(ours: Embeddings) -> Result<CreateEmbeddingResponse> {
        let row = |(index, v): (usize, Vec<f32>)| json!({"object": "embedding", "index": index, "embedding": v});
        let rows = ours.vectors.into_iter().enumerate().map(row).collect::<Vec<_>>();
        let model = ours.extra.get("model").cloned().unwrap_or_else(|| "".into());
        theirs(json!({"object": "list", "model": model, "data": rows, "usage": cost(ours.usage.unwrap_or_default())}))
    }
}

impl From<CreateEmbeddingResponse> for Embeddings {
    fn from(theirs: CreateEmbeddingResponse) -> Embeddings {
        let mut rows = theirs.data;
        rows.sort_by_key(|row| row.index); // ours are in the order of the texts
        let usage = Usage { prompt_tokens: theirs.usage.prompt_tokens, ..Usage::default() };
        let vectors = rows.into_iter().map(|row| row.embedding).collect();
        let extra = serde_json::Map::from_iter([("model".to_owned(), theirs.model.into())]);
        Embeddings { vectors, usage: Some(usage), extra, ..Embeddings::default() }
    }
}

fn cost(usage: Usage) -> Value {
    json!({
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens.saturating_add(usage.completion_tokens),
        "prompt_tokens_details": usage.cached_tokens.map(|tokens| json!({"cached_tokens": tokens})),
        "completion_tokens_details": usage.reasoning_tokens.map(|tokens| json!({"reasoning_tokens": tokens})),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::Map;

    use super::*;

    #[test]
    fn an_answer_comes_back_as_it_went() {
        let call = ToolCall { id: "c".into(), kind: "function".into(), ..ToolCall::default() };
        let ours = ChatReply {
            id: "id".into(),
            model: "m".into(),
            tool_calls: vec![call.clone()],
            finish_reason: Some(FinishReason::ToolCalls),
            logprobs: vec![Logprob {
                token: "a".into(),
                logprob: -0.5,
                bytes: Some(vec![97]),
                top_logprobs: vec![Logprob { token: "b".into(), logprob: -1.5, ..Logprob::default() }],
                ..Logprob::default()
            }],
            usage: Some(Usage {
                prompt_tokens: 3,
                completion_tokens: 4,
                cached_tokens: Some(2),
                reasoning_tokens: Some(1),
            }),
            extra: Map::from_iter([("system_fingerprint".to_owned(), "fp".into())]),
            ..ChatReply::default()
        };
        let theirs = CreateChatCompletionResponse::try_from(ours.clone()).unwrap();
        let back = ChatReply::try_from(theirs).unwrap();
        assert_eq!((back.id, back.model, back.tool_calls), (ours.id, ours.model, ours.tool_calls));
        assert_eq!((back.usage, back.finish_reason), (ours.usage, ours.finish_reason));
        assert_eq!((back.logprobs, &back.extra["system_fingerprint"]), (ours.logprobs, &Value::from("fp")));
        let odd = ChatReply { finish_reason: Some(FinishReason::Other("abort".into())), ..ChatReply::default() };
        assert!(CreateChatCompletionResponse::try_from(odd).is_ok(), "their enum has no word for abort");
    }

    #[test]
    fn requests_and_vectors_go_both_ways() {
        let ours = ChatRequest::new("hi").model("m").temperature(0.5).max_tokens(7);
        let theirs = CreateChatCompletionRequest::try_from(ours).unwrap();
        let back = ChatRequest::try_from(theirs).unwrap();
        assert_eq!(
            (back.sampling.temperature, back.sampling.max_tokens, back.last_text().as_str()),
            (Some(0.5), Some(7), "hi")
        );
        let ours = ChatRequest::new("hi").extra("chat_template_kwargs", json!({"enable_thinking": false}));
        let error = CreateChatCompletionRequest::try_from(ours).unwrap_err();
        assert_eq!((error.kind(), error.get_param()), (Kind::Unsupported, Some("chat_template_kwargs")), "{error}");
        let mut thought = Message::assistant("Yes.");
        thought.extra.insert("reasoning".into(), "Hm.".into());
        let ours = ChatRequest::from(vec![Message::user("?"), thought]);
        let error = CreateChatCompletionRequest::try_from(ours).unwrap_err();
        assert_eq!(error.get_param(), Some("messages.1.reasoning"));
        let ours = EmbedRequest { base64: true, ..EmbedRequest::new(["a", "b"]).dimensions(64) };
        let theirs = CreateEmbeddingRequest::try_from(ours).unwrap();
        assert_eq!(theirs.model, "", "no name is the default model's");
        let back = EmbedRequest::try_from(theirs).unwrap();
        assert_eq!((back.input, back.dimensions, back.base64), (vec!["a".into(), "b".into()], Some(64), true));

        let vectors = vec![vec![0.25, 0.5], vec![1.0, 0.0]];
        let usage = Some(Usage { prompt_tokens: 3, ..Usage::default() });
        let ours = Embeddings { vectors: vectors.clone(), usage, ..Embeddings::default() };
        let mut theirs = CreateEmbeddingResponse::try_from(ours).unwrap();
        assert_eq!(theirs.data[0].embedding, [0.25, 0.5]);
        theirs.data.reverse();
        let back = Embeddings::from(theirs);
        assert_eq!((back.vectors, back.usage), (vectors, usage));
    }

    #[test]
    fn what_their_types_have_no_word_for_is_told() {
        let image = EmbedRequest::image(Image::url("data:image/png;base64,iVBORw0KGgo="));
        let error = CreateEmbeddingRequest::try_from(image).unwrap_err();
        assert_eq!((error.kind(), error.message()), (Kind::Unsupported, "async-openai has no type for this"));
        let nothing = CreateChatCompletionRequest { model: "m".into(), ..CreateChatCompletionRequest::default() };
        assert_eq!(ChatRequest::try_from(nothing).unwrap_err().kind(), Kind::Invalid);
    }
}
