//! Ollama's own API: `/api/chat`, `/api/generate`, `/api/embed` and `/api/tags`. Unlike its OpenAI-compatible side it takes
//! options: the context window, how long a model stays loaded.
mod extras;
mod glance;
mod messages;
mod models;
mod read;
mod reader;
mod time;
mod write;
mod writer;

use bytes::Bytes;
use serde_json::{Value, json};

use super::openai::errors;
use super::{Dialect, Framing, Reader, Writer};
use crate::call::{Call, Delivery, Glance, ModelInfo, Operation, Request};
use crate::error::{Error, Kind, Result};

/// Its shapes of an answer. A body is passed on only to where its own shape is understood, so each is a dialect.
///
/// ```
/// use llm_core::{Call, ChatRequest, Delivery, dialect::{Dialect, ollama::Ollama}};
/// let question = ChatRequest::new("hi").model("llama3").extra("num_ctx", 8192);
/// let body = Ollama::Chat.write(&Call::new(question, Delivery::Stream))?;
/// let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
/// assert_eq!(body["options"]["num_ctx"], 8192);
/// # Ok::<(), llm_core::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ollama {
    /// A conversation, whose answer is a `message`; and what is not asked of a model's words.
    Chat,
    /// One prompt, whose answer is a `response`: put into the model's chat template, unless it is `raw` or has a `suffix`.
    Generate,
    /// One text's vector, as clients asked for it before `/api/embed`.
    Embeddings,
}

impl Dialect for Ollama {
    fn name(&self) -> &'static str {
        match self {
            Ollama::Chat => "ollama",
            Ollama::Generate => "ollama-generate",
            Ollama::Embeddings => "ollama-embeddings",
        }
    }

    fn paths(&self) -> &'static [(Operation, &'static str)] {
        match self {
            Ollama::Chat => {
                &[(Operation::Chat, "/api/chat"), (Operation::Embed, "/api/embed"), (Operation::Models, "/api/tags")]
            }
            Ollama::Generate => &[(Operation::Complete, "/api/generate"), (Operation::Chat, "/api/generate")],
            Ollama::Embeddings => &[(Operation::Embed, "/api/embeddings")],
        }
    }

    fn doors(&self) -> &'static [(Operation, &'static str)] {
        match self {
            Ollama::Chat | Ollama::Embeddings => self.paths(),
            Ollama::Generate => &[(Operation::Complete, "/api/generate")], // one door; its body says which it is
        }
    }

    fn framing(&self) -> Framing {
        Framing::Lines
    }

    fn asks<'b>(&self, operation: Operation, field: &dyn Fn(&str) -> Option<&'b [u8]>) -> Operation {
        let is_raw = field("raw") == Some(b"true");
        let has_suffix = field("suffix").is_some_and(|suffix| !matches!(suffix, b"\"\"" | b"null"));
        match operation {
            Operation::Complete if !is_raw && !has_suffix => Operation::Chat,
            operation => operation,
        }
    }

    fn delivery(&self, operation: Operation) -> Delivery {
        match operation {
            Operation::Chat | Operation::Complete => Delivery::Stream,
            _ => Delivery::Whole,
        }
    }

    fn read(&self, operation: Operation, body: &[u8], lost: &mut Vec<String>) -> Result<Request> {
        read::request(*self, operation, body, lost)
    }

    fn write(&self, call: &Call) -> Result<Bytes> {
        write::body(*self, call)
    }

    fn reader(&self) -> Box<dyn Reader> {
        Box::new(reader::OllamaReader::default())
    }

    fn writer(&self, call: &Call) -> Box<dyn Writer> {
        writer::writer(*self, call)
    }

    fn glance(&self, event: &[u8]) -> Glance {
        glance::glance(event)
    }

    /// An empty piece of an answer: clients that lose patience after half a minute of silence do not lose it.
    fn comment(&self, call: &Call, _: &str) -> Option<Bytes> {
        Some(writer::silence(*self, call))
    }

    fn refusal(&self, status: u16, body: &[u8]) -> Error {
        refusal(status, body)
    }

    fn error(&self, error: &Error) -> Bytes {
        json!({"error": error.to_string()}).to_string().into()
    }

    fn failure(&self, error: &Error) -> Bytes {
        [&self.error(error)[..], b"\n"].concat().into()
    }
}

/// Its errors are a sentence; what kind they are of stands in its words.
fn refusal(status: u16, body: &[u8]) -> Error {
    let error = errors::refusal(status, body);
    match error.kind() {
        Kind::NotFound if error.message().starts_with("model") => error.code("model_not_found"),
        Kind::Invalid | Kind::Upstream if error.message().contains("context length") => {
            error.as_kind(Kind::ContextLength)
        }
        Kind::Invalid if error.message().contains("does not support") => error.as_kind(Kind::Unsupported),
        _ => error,
    }
}

/// What Ollama's clients are told of one model, by `/api/show`.
///
/// ```
/// use llm_core::{ModelInfo, dialect::ollama};
/// let model = ModelInfo { id: "m".into(), max_model_len: Some(2048), ..ModelInfo::default() };
/// assert_eq!(ollama::shown(model)["model_info"]["llm.context_length"], 2048);
/// ```
pub fn shown(model: ModelInfo) -> Value {
    models::shown(model)
}

#[cfg(test)]
mod tests;
