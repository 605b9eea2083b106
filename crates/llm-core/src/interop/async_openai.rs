//! async-openai's chat and embedding types, both ways. What its closed enums have no word for becomes the nearest one.
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

fn theirs<T: DeserializeOwned>(json: Value) -> Result<T> {
    serde_json::from_value(json).map_err(|e| Error::new(Kind::Upstream, "async-openai has no type for this").because(e))
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
        let written = dialect::openai().write(&Call::new(ours, Delivery::Whole))?;
        let json = serde_json::from_slice(&written).map_err(|e| Error::invalid("no JSON").because(e))?;
        theirs(json)
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

impl TryFrom<ChatReply> for CreateChatCompletionResponse {
    type Error = Error;

    fn try_from(ours: ChatReply) -> Result<CreateChatCompletionResponse> {
        let created = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
        let message = json!({"role": "assistant", "content": ours.message().content, "refusal": null,
            "tool_calls": (!ours.tool_calls.is_empty()).then_some(&ours.tool_calls)});
        let reason = ours.finish_reason.as_ref().map(|reason| match reason {
            FinishReason::Other(_) => "stop",
            known => known.as_str(),
        });
        theirs(json!({
            "id": ours.id, "object": "chat.completion", "created": created, "model": ours.model,
            "choices": [{"index": 0, "message": message, "finish_reason": reason, "logprobs": null}],
            "usage": ours.usage.map(cost),
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
        theirs(json!({"object": "list", "model": "", "data": rows, "usage": cost(ours.usage.unwrap_or_default())}))
    }
}

fn cost(usage: Usage) -> Value {
    json!({
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens.saturating_add(usage.completion_tokens),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_comes_back_as_it_went() {
        let call = ToolCall { id: "c".into(), kind: "function".into(), ..ToolCall::default() };
        let ours = ChatReply {
            id: "id".into(),
            model: "m".into(),
            tool_calls: vec![call.clone()],
            finish_reason: Some(FinishReason::ToolCalls),
            usage: Some(Usage { prompt_tokens: 3, completion_tokens: 4, ..Usage::default() }),
            ..ChatReply::default()
        };
        let theirs = CreateChatCompletionResponse::try_from(ours.clone()).unwrap();
        let back = ChatReply::try_from(theirs).unwrap();
        assert_eq!((back.id, back.model, back.tool_calls), (ours.id, ours.model, ours.tool_calls));
        assert_eq!((back.usage, back.finish_reason), (ours.usage, ours.finish_reason));
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
        let vectors = Embeddings { vectors: vec![vec![0.25, 0.5]], usage: None, ..Embeddings::default() };
        let theirs = CreateEmbeddingResponse::try_from(vectors).unwrap();
        assert_eq!(theirs.data[0].embedding, [0.25, 0.5]);
    }
}
