//! OpenAI's dialect, which nearly every host and client speaks: chat completions, completions, embeddings, models, and
//! beside it what vLLM adds: rerank (Jina's and Cohere's shape), score, tokenize and detokenize.
mod base64;
pub(super) mod errors;
mod glance;
pub(super) mod read;
mod reader;
pub(super) mod write;
mod writer;

use bytes::Bytes;
use serde_json::{Value, json};

use super::{Dialect, Reader, Writer};
use crate::call::{Call, Delivery, Glance, Operation, Request};
use crate::error::{Error, Result};

/// OpenAI's shapes, as of its API reference and of vLLM's.
///
/// ```
/// use llm_core::{Operation, dialect::{Dialect, openai::OpenAi}};
/// let request = OpenAi.read(Operation::Embed, br#"{"model":"e5","input":"cats"}"#, &mut Vec::new())?;
/// assert_eq!((request.model(), OpenAi.name()), ("e5", "openai"));
/// # Ok::<(), llm_core::Error>(())
/// ```
pub struct OpenAi;

const LAST_WORD: &[u8] = b"data: [DONE]\n\n";

impl Dialect for OpenAi {
    fn name(&self) -> &'static str {
        "openai"
    }

    fn paths(&self) -> &'static [(Operation, &'static str)] {
        &[
            (Operation::Chat, "/v1/chat/completions"),
            (Operation::Complete, "/v1/completions"),
            (Operation::Embed, "/v1/embeddings"),
            (Operation::Rerank, "/v1/rerank"),
            (Operation::Rerank, "/rerank"),
            (Operation::Rerank, "/v2/rerank"),
            (Operation::Score, "/v1/score"),
            (Operation::Score, "/score"),
            (Operation::Models, "/v1/models"),
            (Operation::Tokenize, "/tokenize"),
            (Operation::Detokenize, "/detokenize"),
        ]
    }

    fn read(&self, operation: Operation, body: &[u8], _: &mut Vec<String>) -> Result<Request> {
        read::request(operation, body)
    }

    fn write(&self, call: &Call) -> Result<Bytes> {
        write::body(call)
    }

    fn with_usage(&self, call: &Call) -> Result<(Call, bool)> {
        let streams = matches!(call.operation, Operation::Chat | Operation::Complete);
        if call.delivery != Delivery::Stream || !streams {
            return Ok((call.clone(), false));
        }
        let wrong = || Error::invalid("`stream_options` must be an object").param("stream_options");
        let mut options = match call.field("stream_options").map_err(|_| wrong())? {
            Value::Null => json!({}),
            options => options,
        };
        let options = options.as_object_mut().ok_or_else(wrong)?;
        if options.get("include_usage") == Some(&Value::Bool(true)) {
            return Ok((call.clone(), false));
        }
        options.insert("include_usage".into(), true.into());
        Ok((call.with("stream_options", &Value::Object(options.clone()))?, true))
    }

    fn reader(&self) -> Box<dyn Reader> {
        Box::new(reader::OpenAiReader::default())
    }

    fn writer(&self, call: &Call) -> Box<dyn Writer> {
        writer::writer(call)
    }

    fn glance(&self, event: &[u8]) -> Glance {
        glance::glance(event)
    }

    fn choice(&self, event: &[u8]) -> u32 {
        glance::index(event)
    }

    fn is_usage_only(&self, event: &[u8]) -> bool {
        glance::is_usage_only(event)
    }

    fn refusal(&self, status: u16, body: &[u8]) -> Error {
        errors::refusal(status, body)
    }

    fn comment(&self, _: &Call, words: &str) -> Option<Bytes> {
        Some(format!(": {words}\n\n").into())
    }

    fn error(&self, error: &Error) -> Bytes {
        errors::body(error).into()
    }

    fn failure(&self, error: &Error) -> Bytes {
        [b"data: ", &errors::body(error)[..], b"\n\n", LAST_WORD].concat().into()
    }

    fn last_word(&self) -> Bytes {
        Bytes::from_static(LAST_WORD)
    }
}
