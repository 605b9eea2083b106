//! An upstream's lines understood: pieces of a stream, or one whole body, which have the same shape.
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{glance, models};
use crate::call::*;
use crate::dialect::Reader;
use crate::error::Result;

#[derive(Default)]
pub(super) struct OllamaReader {
    is_named: bool,
    has_ended: bool,
    calls: usize,
}

impl Reader for OllamaReader {
    fn read(&mut self, frame: &[u8], nouns: &mut Vec<Frame>) -> Result<()> {
        for line in serde_json::Deserializer::from_slice(frame).into_iter::<Line>() {
            let line = line.map_err(|e| invalid_answer("the upstream sent broken JSON").because(e))?;
            if let Some(error) = line.error {
                return Err(super::refusal(500, json!({"error": error}).to_string().as_bytes()));
            }
            self.line(line, nouns)?;
        }
        Ok(())
    }
}

/// Anything it may answer; every field may be missing.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Line {
    error: Option<Value>,
    model: Option<String>,
    message: Option<Said>,
    response: Option<String>,
    thinking: Option<String>,
    logprobs: Option<Vec<Value>>,
    done: bool,
    done_reason: Option<String>,
    prompt_eval_count: Option<u32>,
    eval_count: Option<u32>,
    embeddings: Option<Vec<Vec<f32>>>,
    embedding: Option<Vec<f32>>,
    models: Option<Vec<Value>>,
    total_duration: Option<u64>,
    load_duration: Option<u64>,
    prompt_eval_duration: Option<u64>,
    eval_duration: Option<u64>,
}

impl Line {
    /// How long what took, in nanoseconds.
    fn durations(&self) -> Map<String, Value> {
        let told = [
            ("total_duration", self.total_duration),
            ("load_duration", self.load_duration),
            ("prompt_eval_duration", self.prompt_eval_duration),
            ("eval_duration", self.eval_duration),
        ];
        told.into_iter().filter_map(|(name, time)| Some((name.to_owned(), time?.into()))).collect()
    }
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Said {
    content: Option<String>,
    thinking: Option<String>,
    tool_calls: Option<Vec<ToolCall>>,
}

impl OllamaReader {
    fn line(&mut self, mut line: Line, nouns: &mut Vec<Frame>) -> Result<()> {
        let usage = glance::usage(line.prompt_eval_count, line.eval_count);
        if let Some(vectors) = line.embeddings.take().or(line.embedding.take().map(|vector| vec![vector])) {
            nouns.push(Frame::Vectors(Embeddings { vectors, usage, ..Embeddings::default() }));
            return Ok(());
        }
        if let Some(models) = line.models {
            nouns.push(Frame::Models(models.into_iter().map(models::read).collect()));
            return Ok(());
        }
        if line.message.is_none() && line.response.is_none() && !line.done {
            return Err(invalid_answer("the upstream answered something that is no answer"));
        }
        self.piece(line, usage, &mut |event| nouns.push(Frame::Event(event)));
        Ok(())
    }

    fn piece(&mut self, line: Line, usage: Option<Usage>, say: &mut dyn FnMut(Event)) {
        let durations = line.durations();
        if let Some(model) = line.model.filter(|_| !std::mem::replace(&mut self.is_named, true)) {
            say(Event::ReplyFields(Map::from_iter([("model".to_owned(), model.into())])));
        }
        let is_chat = line.message.is_some();
        let said = line.message.unwrap_or(Said { content: line.response, thinking: line.thinking, tool_calls: None });
        let full = |text: Option<String>| text.filter(|text| !text.is_empty());
        let logprobs = line.logprobs.filter(|list| !list.is_empty());
        logprobs.map(|list| as_openai_has_them(list, is_chat)).map(Event::Logprobs).map(&mut *say);
        full(said.thinking).map(Event::Reasoning).map(&mut *say);
        full(said.content).map(Event::Text).map(&mut *say);
        for call in said.tool_calls.into_iter().flatten() {
            say(Event::ToolCall(self.call(call)));
        }
        if line.done && !std::mem::replace(&mut self.has_ended, true) {
            Some(durations).filter(|times| !times.is_empty()).map(Event::ReplyFields).map(&mut *say);
            say(Event::Finish(self.finish(line.done_reason.as_deref())));
            usage.map(Event::Usage).map(say);
        }
    }

    /// A call in one piece; older servers give it no id, without which its result finds no way back.
    fn call(&mut self, call: ToolCall) -> Value {
        let index = self.calls;
        self.calls += 1;
        let id = if call.id.is_empty() { new_id(index) } else { call.id };
        let (name, arguments) = (call.function.name, call.function.arguments);
        json!({"index": index, "id": id, "type": "function", "function": {"name": name, "arguments": arguments}})
    }

    /// It says `stop` for tools, too.
    fn finish(&self, reason: Option<&str>) -> FinishReason {
        match reason {
            None | Some("" | "stop") if self.calls > 0 => FinishReason::ToolCalls,
            None | Some("") => FinishReason::Stop,
            Some(reason) => reason.into(),
        }
    }
}

fn new_id(index: usize) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    format!("call_{:x}_{index}", now.as_nanos())
}

/// A chat's are a list, a completion's four.
fn as_openai_has_them(list: Vec<Value>, is_chat: bool) -> Value {
    if is_chat {
        return json!({"content": list});
    }
    let column = |name: &str| list.iter().map(|entry| entry[name].clone()).collect::<Value>();
    let likeliest = |entry: &Value| -> Value {
        let pairs = entry["top_logprobs"].as_array().into_iter().flatten();
        let pair = |top: &Value| Some((top["token"].as_str()?.to_owned(), top["logprob"].clone()));
        pairs.filter_map(pair).collect::<Map<_, _>>().into()
    };
    let top = list.iter().map(likeliest).collect::<Value>();
    json!({"tokens": column("token"), "token_logprobs": column("logprob"), "top_logprobs": top})
}
