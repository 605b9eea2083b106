//! Frames written for a client: a stream's lines, or one whole body at the end.
use std::time::Instant;

use bytes::{BufMut, Bytes, BytesMut};
use serde_json::{Map, Value, json};

use super::{Ollama, messages, models, time};
use crate::call::truncated;
use crate::call::*;
use crate::dialect::Writer;
use crate::error::{Error, Kind, Result};

pub(super) fn writer(shape: Ollama, call: &Call) -> Box<dyn Writer> {
    match (call.operation, call.delivery) {
        (Operation::Chat | Operation::Complete, delivery) => Box::new(Answer {
            head: Head::of(shape, call),
            streams: delivery == Delivery::Stream,
            reply: ChatReply::default(),
            logprobs: Vec::new(),
            since: Instant::now(),
        }),
        _ => Box::new(Single { head: Head::of(shape, call), is_written: false }),
    }
}

/// A line that says nothing.
pub(super) fn silence(shape: Ollama, call: &Call) -> Bytes {
    let mut out = BytesMut::new();
    Head::of(shape, call).line(said("", ""), &mut out);
    out.freeze()
}

/// What every line of one answer repeats.
struct Head {
    shape: Ollama,
    model: String,
}

impl Head {
    fn of(shape: Ollama, call: &Call) -> Head {
        let resolved = call.context.progress.borrow().model.clone();
        let model = if call.model.is_empty() { resolved.unwrap_or_default() } else { call.model.clone() };
        Head { shape, model: model.to_string() }
    }

    fn body(&self, said: Map<String, Value>, is_done: bool) -> Map<String, Value> {
        let mut body = match self.shape {
            Ollama::Generate => as_response(said),
            _ => Map::from_iter([("message".to_owned(), said.into())]),
        };
        body.insert("model".into(), self.model.clone().into());
        body.insert("created_at".into(), time::now().into());
        body.insert("done".into(), is_done.into());
        body
    }

    fn line(&self, said: Map<String, Value>, out: &mut BytesMut) {
        put(&self.body(said, false).into(), out);
        out.put_u8(b'\n');
    }
}

/// A message without the conversation around it.
fn as_response(mut said: Map<String, Value>) -> Map<String, Value> {
    said.remove("role");
    let content = said.remove("content").unwrap_or_default();
    said.insert("response".into(), content);
    said
}

fn put(body: &Value, out: &mut BytesMut) {
    out.put_slice(body.to_string().as_bytes());
}

fn said(content: &str, thinking: &str) -> Map<String, Value> {
    let mut said = Map::from_iter([("role".to_owned(), "assistant".into()), ("content".to_owned(), content.into())]);
    if !thinking.is_empty() {
        said.insert("thinking".into(), thinking.into());
    }
    said
}

fn stray(frame: &Frame) -> Error {
    let what = format!("a frame that does not belong here: {frame:?}");
    Error::new(Kind::Internal, what.chars().take(80).collect::<String>())
}

/// A chat's or a completion's answer.
struct Answer {
    head: Head,
    streams: bool,
    reply: ChatReply,
    logprobs: Vec<Value>,
    since: Instant,
}

impl Writer for Answer {
    fn write(&mut self, frame: Frame, out: &mut BytesMut) -> Result<()> {
        let Frame::Event(event) = frame else { return Err(stray(&frame)) };
        match &event {
            Event::Text(text) if self.streams => return self.piece(said(text, ""), out),
            Event::Reasoning(text) if self.streams => return self.piece(said("", text), out),
            Event::Logprobs(more) => self.logprobs.extend(more["content"].as_array().into_iter().flatten().cloned()),
            _ => {}
        }
        self.reply.add(event);
        Ok(())
    }

    /// What it cost is told behind the finish, and Ollama's last line tells both.
    fn end(&mut self, out: &mut BytesMut) -> Result<()> {
        let reason = self.reply.finish_reason.take().ok_or_else(truncated)?;
        let mut last = said(&self.reply.text, &self.reply.reasoning);
        if !self.reply.tool_calls.is_empty() {
            last.insert("tool_calls".into(), messages::calls(&self.reply.tool_calls));
        }
        if self.streams && last.contains_key("tool_calls") {
            self.piece(std::mem::replace(&mut last, said("", "")), out)?;
        }
        let mut body = self.head.body(last, true);
        let is_plain = matches!(reason, FinishReason::ToolCalls); // for which it has no word of its own
        body.insert("done_reason".into(), if is_plain { "stop" } else { reason.as_str() }.into());
        self.tell_cost(&mut body);
        self.tell_logprobs(&mut body);
        put(&body.into(), out);
        if self.streams {
            out.put_u8(b'\n');
        }
        Ok(())
    }
}

impl Answer {
    fn piece(&mut self, said: Map<String, Value>, out: &mut BytesMut) -> Result<()> {
        let mut body = self.head.body(said, false);
        self.tell_logprobs(&mut body);
        put(&body.into(), out);
        out.put_u8(b'\n');
        Ok(())
    }

    fn tell_logprobs(&mut self, body: &mut Map<String, Value>) {
        if !self.logprobs.is_empty() {
            body.insert("logprobs".into(), std::mem::take(&mut self.logprobs).into());
        }
    }

    /// An Ollama's own times, or how long it took from the first word to the last.
    fn tell_cost(&self, body: &mut Map<String, Value>) {
        let took = u64::try_from(self.since.elapsed().as_nanos()).unwrap_or(u64::MAX);
        for name in ["total_duration", "eval_duration"] {
            body.insert(name.into(), took.into());
        }
        for name in ["total_duration", "load_duration", "prompt_eval_duration", "eval_duration"] {
            let told = self.reply.extra.get(name);
            body.extend(told.map(|told| (name.to_owned(), told.clone())));
        }
        let cost = self.reply.usage.unwrap_or_default();
        body.insert("prompt_eval_count".into(), cost.prompt_tokens.into());
        body.insert("eval_count".into(), cost.completion_tokens.into());
    }
}

/// Replies of one frame: vectors and models.
struct Single {
    head: Head,
    is_written: bool,
}

impl Writer for Single {
    fn write(&mut self, frame: Frame, out: &mut BytesMut) -> Result<()> {
        let body = match frame {
            Frame::Vectors(vectors) if self.head.shape == Ollama::Embeddings => {
                json!({"embedding": vectors.vectors.first().ok_or_else(truncated)?})
            }
            Frame::Vectors(vectors) => json!({
                "model": self.head.model,
                "embeddings": vectors.vectors,
                "prompt_eval_count": vectors.usage.unwrap_or_default().prompt_tokens,
            }),
            Frame::Models(models) => json!({"models": models.into_iter().map(models::write).collect::<Vec<_>>()}),
            other => return Err(stray(&other)),
        };
        self.is_written = true;
        put(&body, out);
        Ok(())
    }

    fn end(&mut self, _: &mut BytesMut) -> Result<()> {
        if self.is_written { Ok(()) } else { Err(truncated()) }
    }
}
