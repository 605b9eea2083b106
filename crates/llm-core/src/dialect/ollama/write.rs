//! Our nouns as bodies for a host.
use bytes::Bytes;
use serde_json::{Map, Value};

use super::{Ollama, extras, messages};
use crate::call::*;
use crate::dialect::openai::write::{json, put};
use crate::error::{Error, Kind, Result};

pub(super) fn body(shape: Ollama, call: &Call) -> Result<Bytes> {
    let mut warnings = Vec::new();
    let mut body = match call.request()? {
        Request::Chat(r) => chat(r, &mut warnings)?,
        Request::Complete(r) => complete(r, &mut warnings)?,
        Request::Embed(r) => embed(shape, r, &mut warnings)?,
        Request::Models => return Ok(Bytes::new()),
        other => return Err(Error::new(Kind::Unsupported, format!("Ollama cannot {}", other.operation()))),
    };
    warnings.into_iter().for_each(|warning| call.context.warn(warning));
    body.insert("model".into(), (*call.model).into());
    if call.operation != Operation::Embed {
        body.insert("stream".into(), (call.delivery == Delivery::Stream).into());
    }
    Ok(serde_json::to_vec(&body).map_err(|e| Error::invalid("the request cannot be JSON").because(e))?.into())
}

fn chat(r: &ChatRequest, warnings: &mut Vec<String>) -> Result<Map<String, Value>> {
    one(r.n)?;
    let mut body = Map::from_iter([("messages".to_owned(), messages::write(&r.messages)?.into())]);
    let mut extra = r.extra.clone();
    let choice = extra.remove("tool_choice").unwrap_or_default();
    if !r.tools.is_empty() && choice != "none" {
        body.insert("tools".into(), json(&r.tools)?);
        if !(choice.is_null() || choice == "auto") {
            warnings.push("Ollama cannot be made to call a tool: `tool_choice` was left out".into());
        }
    }
    extras::write(&mut body, &extra, &r.sampling, warnings)?;
    Ok(body)
}

/// The text as it is: in a chat template only where the model has to fill a hole.
fn complete(r: &CompleteRequest, warnings: &mut Vec<String>) -> Result<Map<String, Value>> {
    one(r.n)?;
    let mut body = Map::from_iter([("prompt".to_owned(), r.prompt.clone().into())]);
    if r.extra.get("suffix").is_none_or(|suffix| suffix.is_null() || suffix == "") {
        body.insert("raw".into(), true.into());
    }
    extras::write(&mut body, &r.extra, &r.sampling, warnings)?;
    Ok(body)
}

fn embed(shape: Ollama, r: &EmbedRequest, warnings: &mut Vec<String>) -> Result<Map<String, Value>> {
    if !r.messages.is_empty() {
        return Err(Error::new(Kind::Unsupported, "Ollama embeds texts alone").param("messages"));
    }
    let mut body = match (shape, &r.input[..]) {
        (Ollama::Embeddings, [text]) => Map::from_iter([("prompt".to_owned(), text.clone().into())]),
        (Ollama::Embeddings, _) => {
            return Err(Error::new(Kind::Unsupported, "one text at a time has a vector there").param("input"));
        }
        _ => Map::from_iter([("input".to_owned(), json(&r.input)?)]),
    };
    put(&mut body, "dimensions", &r.dimensions)?;
    extras::write(&mut body, &r.extra, &Sampling::default(), warnings)?;
    Ok(body)
}

fn one(n: Option<u32>) -> Result<()> {
    match n {
        Some(n) if n > 1 => {
            let message = "Ollama gives one answer to a question: `n` must be 1";
            Err(Error::new(Kind::Unsupported, message).param("n"))
        }
        _ => Ok(()),
    }
}
