//! Frames written for a client: a stream's chunks, or one whole body at the end.
use std::mem;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::{BufMut, BytesMut};
use serde_json::{Map, Value, json};

use super::{LAST_WORD, base64};
use crate::call::*;
use crate::call::{grow, renew, truncated};
use crate::dialect::Writer;
use crate::error::{Error, Kind, Result};

pub(super) fn writer(call: &Call) -> Box<dyn Writer> {
    let head = Head::of(call);
    match (call.operation, call.delivery) {
        (Operation::Chat | Operation::Complete, Delivery::Stream) => Box::new(Chunks::new(head, asks_usage(call))),
        (Operation::Chat | Operation::Complete, Delivery::Whole) => {
            let (reply_fields, message_fields, choice_fields) = Default::default();
            let (reply, logprobs) = (ChatReply::default(), None);
            Box::new(Whole { head, reply, logprobs, reply_fields, message_fields, choice_fields })
        }
        _ => Box::new(Single { head, base64: asks_base64(call), is_written: false }),
    }
}

/// What every chunk of one answer repeats.
struct Head {
    id: String,
    created: u64,
    model: String,
    is_chat: bool,
}

impl Head {
    fn of(call: &Call) -> Head {
        let is_chat = call.operation == Operation::Chat;
        let id = format!("{}-{}", if is_chat { "chatcmpl" } else { "cmpl" }, call.context.id);
        let created = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
        let resolved = call.context.progress.borrow().model.clone();
        let model = if call.model.is_empty() { resolved.unwrap_or_default() } else { call.model.clone() };
        Head { id, created, model: model.to_string(), is_chat }
    }

    fn body(&self, chunk: bool, choices: Value) -> Map<String, Value> {
        let object = match (self.is_chat, chunk) {
            (true, true) => "chat.completion.chunk",
            (true, false) => "chat.completion",
            (false, _) => "text_completion",
        };
        let body =
            json!({"id": self.id, "object": object, "created": self.created, "model": self.model, "choices": choices});
        let Value::Object(body) = body else { unreachable!("json! made an object") };
        body
    }
}

fn asks_usage(call: &Call) -> bool {
    let asked = |v: &Value| v.get("include_usage").and_then(Value::as_bool).unwrap_or(false);
    match call.raw("stream_options") {
        Some(raw) => serde_json::from_slice(raw).is_ok_and(|v| asked(&v)),
        None => match call.request() {
            Ok(Request::Chat(r)) => r.extra.get("stream_options").is_some_and(asked),
            Ok(Request::Complete(r)) => r.extra.get("stream_options").is_some_and(asked),
            _ => false,
        },
    }
}

fn asks_base64(call: &Call) -> bool {
    matches!(call.request(), Ok(Request::Embed(r)) if r.base64)
}

/// What it cost, with what else a server told of that.
fn cost(of: Usage, more: Option<Value>) -> Value {
    let mut cost = usage(of);
    more.into_iter().for_each(|more| join(&mut cost, more));
    cost
}

/// Fields that a body has not, put into it, and into the objects that both have.
fn join(body: &mut Value, more: Value) {
    let (Value::Object(ours), Value::Object(theirs)) = (body, more) else { return };
    for (name, value) in theirs {
        match ours.get_mut(&name) {
            Some(there) => join(there, value),
            None => drop(ours.insert(name, value)),
        }
    }
}

fn usage(usage: Usage) -> Value {
    let mut body = json!({
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens.saturating_add(usage.completion_tokens),
    });
    if let Some(cached) = usage.cached_tokens {
        body["prompt_tokens_details"] = json!({"cached_tokens": cached});
    }
    if let Some(reasoning) = usage.reasoning_tokens {
        body["completion_tokens_details"] = json!({"reasoning_tokens": reasoning});
    }
    body
}

fn stray(frame: &Frame) -> Error {
    Error::new(
        Kind::Internal,
        format!("a frame that does not belong here: {frame:?}").chars().take(80).collect::<String>(),
    )
}

/// A stream of chunks.
struct Chunks {
    head: Head,
    asks_usage: bool,
    has_begun: bool,
    is_finished: bool,
    usage: Option<Usage>,
    logprobs: Value,
    fields: Map<String, Value>, // of the reply, beyond those that we know
    more_cost: Option<Value>,
    choice_fields: Map<String, Value>,
}

impl Chunks {
    fn new(head: Head, asks_usage: bool) -> Chunks {
        Chunks {
            head,
            asks_usage,
            has_begun: false,
            is_finished: false,
            usage: None,
            logprobs: Value::Null,
            fields: Map::new(),
            more_cost: None,
            choice_fields: Map::new(),
        }
    }

    fn chunk(&mut self, delta: Value, finish: Option<&FinishReason>, out: &mut BytesMut) {
        let mut choice =
            json!({"index": 0, "logprobs": self.logprobs.take(), "finish_reason": finish.map(FinishReason::as_str)});
        join(&mut choice, mem::take(&mut self.choice_fields).into());
        if self.head.is_chat {
            choice["delta"] = delta;
        } else {
            choice["text"] = delta.get("content").cloned().unwrap_or_else(|| "".into());
        }
        self.send(json!([choice]), None, out);
    }

    fn send(&self, choices: Value, usage: Option<Value>, out: &mut BytesMut) {
        let mut body = self.head.body(true, choices);
        body.extend(self.fields.clone());
        if let Some(usage) = usage {
            body.insert("usage".into(), usage);
        }
        out.put_slice(b"data: ");
        out.put_slice(Value::Object(body).to_string().as_bytes());
        out.put_slice(b"\n\n");
    }
}

impl Writer for Chunks {
    fn write(&mut self, frame: Frame, out: &mut BytesMut) -> Result<()> {
        let Frame::Event(event) = frame else { return Err(stray(&frame)) };
        if !mem::replace(&mut self.has_begun, true) && self.head.is_chat {
            self.chunk(json!({"role": "assistant", "content": ""}), None, out);
        }
        match event {
            Event::Text(text) => self.chunk(json!({"content": text}), None, out),
            // vLLM's word and the older one that most clients read.
            Event::Reasoning(text) => self.chunk(json!({"reasoning": text, "reasoning_content": text}), None, out),
            Event::ToolCall(call) => self.chunk(json!({"tool_calls": [call]}), None, out),
            Event::Logprobs(logprobs) => join_logprobs(&mut self.logprobs, logprobs),
            Event::ReplyFields(mut fields) => {
                self.more_cost = fields.remove("usage").or(self.more_cost.take());
                self.fields.extend(ours_first(fields));
            }
            Event::MessageFields(fields) => self.chunk(fields.into(), None, out),
            Event::ChoiceFields(fields) => {
                self.choice_fields = fields;
                self.chunk(json!({}), None, out);
            }
            Event::Finish(reason) => {
                self.is_finished = true;
                self.chunk(json!({}), Some(&reason), out);
            }
            Event::Usage(usage) => self.usage = Some(usage),
        }
        Ok(())
    }

    fn end(&mut self, out: &mut BytesMut) -> Result<()> {
        if !self.is_finished {
            return Err(truncated());
        }
        if let Some(told) = self.usage.filter(|_| self.asks_usage) {
            let told = cost(told, self.more_cost.take());
            self.send(json!([]), Some(told), out);
        }
        out.put_slice(LAST_WORD);
        Ok(())
    }
}

/// The client knows the answer by the id and the model that we gave it.
fn ours_first(mut fields: Map<String, Value>) -> Map<String, Value> {
    fields.retain(|name, _| !matches!(name.as_str(), "id" | "model"));
    fields
}

/// One body at the end.
struct Whole {
    head: Head,
    reply: ChatReply,
    logprobs: Option<Value>,
    reply_fields: Map<String, Value>,
    message_fields: Map<String, Value>,
    choice_fields: Map<String, Value>,
}

impl Whole {
    fn choice(&self, reason: &FinishReason) -> Value {
        let mut choice = json!({"index": 0, "logprobs": self.logprobs, "finish_reason": reason.as_str()});
        join(&mut choice, self.choice_fields.clone().into());
        if !self.head.is_chat {
            choice["text"] = self.reply.text.clone().into();
            return choice;
        }
        let mut message = json!(self.reply.message());
        message["refusal"] = Value::Null;
        if !self.reply.reasoning.is_empty() {
            message["reasoning"] = self.reply.reasoning.clone().into();
            message["reasoning_content"] = self.reply.reasoning.clone().into();
        }
        for (name, value) in &self.message_fields {
            message[name] = value.clone();
        }
        choice["message"] = message;
        choice
    }
}

impl Writer for Whole {
    fn write(&mut self, frame: Frame, _: &mut BytesMut) -> Result<()> {
        match frame {
            Frame::Event(Event::Logprobs(more)) => join_logprobs(self.logprobs.get_or_insert(Value::Null), more),
            Frame::Event(Event::ReplyFields(fields)) => self.reply_fields.extend(ours_first(fields)),
            Frame::Event(Event::MessageFields(fields)) => {
                fields.into_iter().for_each(|field| grow(&mut self.message_fields, field));
            }
            Frame::Event(Event::ChoiceFields(fields)) => {
                fields.into_iter().for_each(|field| renew(&mut self.choice_fields, field));
            }
            Frame::Event(event) => self.reply.add(event),
            other => return Err(stray(&other)),
        }
        Ok(())
    }

    fn end(&mut self, out: &mut BytesMut) -> Result<()> {
        let reason = self.reply.finish_reason.clone().ok_or_else(truncated)?;
        let mut body = self.head.body(false, json!([self.choice(&reason)]));
        // What it cost nobody told is not told as nothing.
        let more = self.reply_fields.remove("usage");
        body.extend(self.reply.usage.map(|told| ("usage".to_owned(), cost(told, more))));
        body.append(&mut self.reply_fields);
        out.put_slice(Value::Object(body).to_string().as_bytes());
        Ok(())
    }
}

/// The lists of one chunk's log probabilities behind those of the chunks before.
fn join_logprobs(so_far: &mut Value, more: Value) {
    let (Value::Object(ours), Value::Object(theirs)) = (&mut *so_far, &more) else { return *so_far = more };
    for (name, list) in theirs {
        match (ours.get_mut(name).and_then(Value::as_array_mut), list.as_array()) {
            (Some(ours), Some(theirs)) => ours.extend(theirs.iter().cloned()),
            _ => drop(ours.insert(name.clone(), list.clone())),
        }
    }
}

/// Replies of one frame: vectors, tokens, texts, models.
struct Single {
    head: Head,
    base64: bool,
    is_written: bool,
}

impl Writer for Single {
    fn write(&mut self, frame: Frame, out: &mut BytesMut) -> Result<()> {
        let body = match frame {
            Frame::Vectors(mut vectors) => with(mem::take(&mut vectors.extra), self.vectors(vectors)),
            Frame::Ranking(mut ranking) => with(mem::take(&mut ranking.extra), self.ranking(ranking)),
            Frame::Scores(mut scores) => with(mem::take(&mut scores.extra), self.scores(scores)),
            Frame::Tokens(tokens) => json!(tokens),
            Frame::Text(text) => json!({"prompt": text}),
            Frame::Models(models) => json!({"object": "list", "data": models}),
            other => return Err(stray(&other)),
        };
        self.is_written = true;
        out.put_slice(body.to_string().as_bytes());
        Ok(())
    }

    fn end(&mut self, _: &mut BytesMut) -> Result<()> {
        if self.is_written { Ok(()) } else { Err(truncated()) }
    }
}

/// A body with what else the upstream told.
fn with(more: Map<String, Value>, mut body: Value) -> Value {
    join(&mut body, ours_first(more).into());
    body
}

impl Single {
    fn ranking(&self, ranking: Ranking) -> Value {
        let cost = ranking.usage.unwrap_or_default();
        let usage = json!({"prompt_tokens": cost.prompt_tokens, "total_tokens": cost.prompt_tokens});
        json!({"id": self.head.id, "model": self.head.model, "usage": usage, "results": ranking.results})
    }

    fn scores(&self, scores: Scores) -> Value {
        let row = |(index, score)| json!({"index": index, "object": "score", "score": score});
        let rows = scores.scores.into_iter().enumerate().map(row).collect::<Vec<_>>();
        let usage = usage(scores.usage.unwrap_or_default());
        json!({"id": self.head.id, "object": "list", "created": self.head.created, "model": self.head.model, "data": rows, "usage": usage})
    }

    fn vectors(&self, embeddings: Embeddings) -> Value {
        let vector = |v: Vec<f32>| if self.base64 { json!(base64::encode(&v)) } else { json!(v) };
        let row = |(index, v)| json!({"object": "embedding", "index": index, "embedding": vector(v)});
        let cost = embeddings.usage.unwrap_or_default();
        json!({
            "object": "list",
            "data": embeddings.vectors.into_iter().enumerate().map(row).collect::<Vec<_>>(),
            "model": self.head.model,
            "usage": {"prompt_tokens": cost.prompt_tokens, "total_tokens": cost.prompt_tokens},
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(call: &Call, frames: Vec<Frame>) -> String {
        let (mut writer, mut out) = (writer(call), BytesMut::new());
        frames.into_iter().for_each(|frame| writer.write(frame, &mut out).unwrap());
        writer.end(&mut out).unwrap();
        String::from_utf8(out.to_vec()).unwrap()
    }

    fn fields(value: Value) -> Map<String, Value> {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn what_we_do_not_know_stands_where_it_stood() {
        let events = || {
            let logprobs = json!({"content": [{"token": "hi", "logprob": -0.5}]});
            let events = [
                Event::ReplyFields(fields(json!({"id": "theirs", "system_fingerprint": "f", "usage": {"cost": 0.5}}))),
                Event::Logprobs(logprobs.clone()),
                Event::Logprobs(logprobs),
                Event::Text("hi".into()),
                Event::MessageFields(fields(json!({"refusal": "no"}))),
                Event::ChoiceFields(fields(json!({"stop_reason": 7}))),
                Event::Finish(FinishReason::Stop),
                Event::Usage(Usage { prompt_tokens: 1, cached_tokens: Some(1), ..Usage::default() }),
            ];
            events.map(Frame::Event).to_vec()
        };
        let asks = ChatRequest::new("?").model("ours").extra("stream_options", json!({"include_usage": true}));
        let whole: Value = serde_json::from_str(&written(&Call::new(asks.clone(), Delivery::Whole), events())).unwrap();
        let choice = &whole["choices"][0];
        assert_eq!((&choice["stop_reason"], &choice["message"]["refusal"]), (&json!(7), &json!("no")));
        assert_eq!((&whole["model"], &whole["system_fingerprint"]), (&json!("ours"), &json!("f")));
        assert_eq!((&whole["usage"]["cost"], &whole["usage"]["total_tokens"]), (&json!(0.5), &json!(1)));
        let stream = written(&Call::new(asks, Delivery::Stream), events());
        let chunks: Vec<Value> =
            stream.split("\n\n").filter_map(|event| serde_json::from_str(event.strip_prefix("data: ")?).ok()).collect();
        let told =
            |at: &str| chunks.iter().filter_map(|chunk| chunk.pointer(at)).find(|value| !value.is_null()).cloned();
        assert_eq!(told("/choices/0/stop_reason"), Some(json!(7)));
        assert_eq!((told("/choices/0/delta/refusal"), told("/usage/cost")), (Some(json!("no")), Some(json!(0.5))));
        let said = chunks.iter().find(|chunk| chunk["choices"][0]["delta"]["content"] == "hi").unwrap();
        let probabilities = said["choices"][0]["logprobs"]["content"].as_array().unwrap();
        assert_eq!(probabilities.len(), 2, "both stand at the words that follow them");
    }

    #[test]
    fn vectors_ranks_and_scores_keep_what_their_host_told() {
        let extra = || fields(json!({"id": "theirs", "model": "theirs", "note": 1, "usage": {"cost": 2}}));
        let usage = Some(Usage { prompt_tokens: 3, ..Usage::default() });
        let told = |call: Call, frame| serde_json::from_str::<Value>(&written(&call, vec![frame])).unwrap();
        let vectors = Embeddings { vectors: vec![vec![1.0]], usage, extra: extra(), ..Embeddings::default() };
        let ask = Call::new(EmbedRequest::new(["a"]).model("ours"), Delivery::Whole);
        let embedded = told(ask, Frame::Vectors(vectors));
        let ranking = Ranking { results: vec![Ranked::default()], usage, extra: extra(), ..Ranking::default() };
        let ranked =
            told(Call::new(RerankRequest::new("q", ["d"]).model("ours"), Delivery::Whole), Frame::Ranking(ranking));
        let scores = Scores { scores: vec![0.5], usage, extra: extra(), ..Scores::default() };
        let scored =
            told(Call::new(ScoreRequest::new(["q"], ["d"]).model("ours"), Delivery::Whole), Frame::Scores(scores));
        for body in [embedded, ranked, scored] {
            assert_eq!((&body["model"], &body["note"]), (&json!("ours"), &json!(1)), "{body}");
            assert_eq!((&body["usage"]["cost"], &body["usage"]["prompt_tokens"]), (&json!(2), &json!(3)), "{body}");
        }
    }
}
