//! Our nouns as bodies for a host.
use bytes::Bytes;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::call::*;
use crate::error::{Error, Result};

pub(super) fn body(call: &Call) -> Result<Bytes> {
    let mut body = match call.request()? {
        Request::Chat(r) => chat(r)?,
        Request::Complete(r) => complete(r)?,
        Request::Embed(r) => embed(r)?,
        Request::Rerank(r) => rerank(r)?,
        Request::Score(r) => score(r)?,
        Request::Tokenize(r) => tokenize(r)?,
        Request::Detokenize(r) => {
            let mut body = r.extra.clone();
            body.insert("tokens".into(), json(&r.tokens)?);
            body
        }
        Request::Models => return Ok(Bytes::new()),
    };
    if !call.model.is_empty() {
        body.insert("model".into(), (*call.model).into());
    }
    if call.delivery == Delivery::Stream {
        body.insert("stream".into(), true.into());
    }
    Ok(serde_json::to_vec(&body).map_err(|e| Error::invalid("the request cannot be JSON").because(e))?.into())
}

fn chat(r: &ChatRequest) -> Result<Map<String, Value>> {
    let mut body = r.extra.clone();
    body.insert("messages".into(), json(&r.messages)?);
    put(&mut body, "n", &r.n)?;
    if !r.tools.is_empty() {
        body.insert("tools".into(), json(&r.tools)?);
    }
    sampling(&mut body, &r.sampling)?;
    Ok(body)
}

fn complete(r: &CompleteRequest) -> Result<Map<String, Value>> {
    let mut body = r.extra.clone();
    body.insert("prompt".into(), r.prompt.clone().into());
    put(&mut body, "n", &r.n)?;
    sampling(&mut body, &r.sampling)?;
    Ok(body)
}

fn embed(r: &EmbedRequest) -> Result<Map<String, Value>> {
    let mut body = r.extra.clone();
    if r.messages.is_empty() {
        body.insert("input".into(), json(&r.input)?);
    } else {
        body.insert("messages".into(), json(&r.messages)?);
    }
    put(&mut body, "dimensions", &r.dimensions)?;
    if r.base64 {
        body.insert("encoding_format".into(), "base64".into());
    }
    Ok(body)
}

fn rerank(r: &RerankRequest) -> Result<Map<String, Value>> {
    let mut body = r.extra.clone();
    body.insert("query".into(), r.query.clone().into());
    body.insert("documents".into(), r.documents.clone().into());
    put(&mut body, "top_n", &r.top_n)?;
    Ok(body)
}

/// The oldest of vLLM's names for the two sides, which others took over.
fn score(r: &ScoreRequest) -> Result<Map<String, Value>> {
    let mut body = r.extra.clone();
    let one = |list: &[Value]| if let [one] = list { one.clone() } else { list.to_vec().into() };
    body.insert("text_1".into(), one(&r.queries));
    body.insert("text_2".into(), r.documents.clone().into());
    Ok(body)
}

fn tokenize(r: &TokenizeRequest) -> Result<Map<String, Value>> {
    let mut body = r.extra.clone();
    match &r.prompt {
        Prompt::Text(text) => {
            body.insert("prompt".into(), text.clone().into());
            body.insert("add_special_tokens".into(), r.add_special_tokens.into());
        }
        Prompt::Chat(messages) => {
            body.insert("messages".into(), json(messages)?);
        }
    }
    Ok(body)
}

fn sampling(body: &mut Map<String, Value>, s: &Sampling) -> Result<()> {
    // Older hosts know only this name; the newer ones still take it.
    put(body, "max_tokens", &s.max_tokens)?;
    put(body, "temperature", &s.temperature)?;
    put(body, "top_p", &s.top_p)?;
    put(body, "top_k", &s.top_k)?;
    put(body, "min_p", &s.min_p)?;
    put(body, "seed", &s.seed.map(|seed| seed as i64))?;
    put(body, "presence_penalty", &s.presence_penalty)?;
    put(body, "frequency_penalty", &s.frequency_penalty)?;
    put(body, "repetition_penalty", &s.repetition_penalty)?;
    if !s.stop.is_empty() {
        body.insert("stop".into(), json(&s.stop)?);
    }
    if !s.logit_bias.is_empty() {
        let map: Map<_, _> = s.logit_bias.iter().map(|(id, bias)| (id.to_string(), Value::from(*bias))).collect();
        body.insert("logit_bias".into(), map.into());
    }
    Ok(())
}

/// Fields that were left out stay out: a null means something to some hosts. A float keeps its short form: 0.2, not
/// 0.20000000298.
pub(in crate::dialect) fn put<T: Serialize + Copy + std::fmt::Display>(
    body: &mut Map<String, Value>,
    name: &str,
    value: &Option<T>,
) -> Result<()> {
    if let Some(value) = value {
        let short = serde_json::from_str(&value.to_string()).or_else(|_| json(value))?;
        body.insert(name.into(), short);
    }
    Ok(())
}

pub(in crate::dialect) fn json(value: &impl Serialize) -> Result<Value> {
    serde_json::to_value(value).map_err(|e| Error::invalid("the request cannot be JSON").because(e))
}
