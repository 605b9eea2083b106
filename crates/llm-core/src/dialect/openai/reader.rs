//! An upstream's frames understood: chunks of a stream, or one whole body, in whichever of OpenAI's shapes.
use serde::Deserialize;
use serde_json::Value;

use super::glance::{self, WireUsage};
use crate::call::*;
use crate::dialect::{Reader, sse};
use crate::error::{Error, Kind, Result};

#[derive(Default)]
pub(super) struct OpenAiReader;

impl Reader for OpenAiReader {
    fn read(&mut self, frame: &[u8], nouns: &mut Vec<Frame>) -> Result<()> {
        if frame.trim_ascii_start().starts_with(b"{") {
            return whole(frame, nouns);
        }
        for event in sse::events(frame) {
            let Some(data) = sse::data(event) else { continue };
            if !data.starts_with(b"[DONE]") {
                whole(&data, nouns)?;
            }
        }
        Ok(())
    }
}

/// Anything a server may answer; every field may be missing, and unknown ones do no harm.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Body {
    choices: Option<Vec<Choice>>,
    usage: Option<WireUsage>,
    data: Option<Vec<Value>>,
    prompt: Option<String>,
    count: Option<usize>,
    max_model_len: Option<u32>,
    tokens: Option<Vec<u32>>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Choice {
    index: Option<u32>,
    delta: Option<Said>,
    message: Option<Said>,
    text: Option<String>,
    logprobs: Option<Value>,
    finish_reason: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Said {
    content: Option<String>,
    reasoning: Option<String>,
    reasoning_content: Option<String>,
    tool_calls: Option<Vec<Value>>,
}

fn whole(json: &[u8], nouns: &mut Vec<Frame>) -> Result<()> {
    if let Some(failure) = glance::glance(json).failure {
        return Err(failure);
    }
    let body: Body = serde_json::from_slice(json)
        .map_err(|e| Error::new(Kind::Upstream, "the upstream sent broken JSON").because(e))?;
    let usage = body.usage.map(Usage::from);
    if let Some(choices) = body.choices {
        // The typed API is one answer; further ones go only to clients of the same dialect, as bytes.
        choices.into_iter().filter(|c| c.index.unwrap_or(0) == 0).for_each(|c| choice(c, nouns));
        nouns.extend(usage.map(|u| Frame::Event(Event::Usage(u))));
    } else if let Some(data) = body.data {
        nouns.push(list(data, usage)?);
    } else if let Some(text) = body.prompt {
        nouns.push(Frame::Text(text));
    } else if let Some(count) = body.count {
        let tokens = body.tokens.unwrap_or_default();
        nouns.push(Frame::Tokens(Tokens { count, max_model_len: body.max_model_len, tokens }));
    } else {
        return Err(Error::new(Kind::Upstream, "the upstream answered something that is no answer"));
    }
    Ok(())
}

fn choice(mut choice: Choice, nouns: &mut Vec<Frame>) {
    choice.finish_reason = choice.finish_reason.filter(|reason| !reason.is_empty());
    if choice.message.is_some() {
        choice.finish_reason.get_or_insert_with(|| "stop".into()); // a whole answer has ended, whether it says so or not
    }
    let mut say = |event| nouns.push(Frame::Event(event));
    let full = |text: Option<String>| text.filter(|t| !t.is_empty());
    if let Some(said) = choice.delta.or(choice.message) {
        // vLLM renamed the field; some servers send both with the same words.
        full(said.reasoning.or(said.reasoning_content)).map(Event::Reasoning).map(&mut say);
        full(said.content).map(Event::Text).map(&mut say);
        said.tool_calls.into_iter().flatten().map(Event::ToolCall).for_each(&mut say);
    }
    full(choice.text).map(Event::Text).map(&mut say);
    choice.logprobs.filter(|l| !l.is_null()).map(Event::Logprobs).map(&mut say);
    full(choice.finish_reason).map(|r| Event::Finish(r.as_str().into())).map(&mut say);
}

/// A list is of embeddings or of models.
fn list(data: Vec<Value>, usage: Option<Usage>) -> Result<Frame> {
    let broken = |e| Error::new(Kind::Upstream, "the upstream sent a list of something else").because(e);
    if data.first().is_some_and(|item| item.get("embedding").is_some()) {
        let mut rows: Vec<Row> =
            data.into_iter().map(serde_json::from_value).collect::<Result<_, _>>().map_err(broken)?;
        rows.sort_by_key(|row| row.index); // they are promised in order, and do not always come so
        let vectors = rows.into_iter().map(|row| row.embedding.numbers()).collect::<Result<_>>()?;
        return Ok(Frame::Vectors(Embeddings { vectors, usage }));
    }
    let models = data.into_iter().map(serde_json::from_value).collect::<Result<_, _>>().map_err(broken)?;
    Ok(Frame::Models(models))
}

#[derive(Deserialize)]
struct Row {
    #[serde(default)]
    index: usize,
    embedding: Vector,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Vector {
    Numbers(Vec<f32>),
    Base64(String),
}

impl Vector {
    fn numbers(self) -> Result<Vec<f32>> {
        match self {
            Vector::Numbers(numbers) => Ok(numbers),
            Vector::Base64(text) => super::base64::decode(&text)
                .ok_or_else(|| Error::new(Kind::Upstream, "the upstream sent a vector in broken base64")),
        }
    }
}
