//! An upstream's frames understood: chunks of a stream, or one whole body, in whichever of OpenAI's shapes.
use serde::Deserialize;
use serde_json::{Map, Value};

use super::glance::{self, WireUsage};
use crate::call::*;
use crate::dialect::fields::Fields;
use crate::dialect::{Reader, sse};
use crate::error::{Error, Kind, Result};

#[derive(Default)]
pub(super) struct OpenAiReader {
    told: Map<String, Value>, // a stream repeats its fields in every chunk
    has_begun: bool,
    has_ended: bool,
}

impl Reader for OpenAiReader {
    fn read(&mut self, frame: &[u8], nouns: &mut Vec<Frame>) -> Result<()> {
        if frame.trim_ascii_start().starts_with(b"{") {
            return self.whole(frame, nouns);
        }
        for event in sse::events(frame) {
            let Some(data) = sse::data(event) else { continue };
            if data.starts_with(b"[DONE]") {
                nouns.extend(self.forgotten_finish());
            } else {
                self.whole(&data, nouns)?;
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
    usage: Option<Value>,
    #[serde(flatten)]
    rest: Map<String, Value>,
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
    #[serde(flatten)]
    rest: Map<String, Value>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Said {
    content: Option<Value>,
    reasoning: Option<Value>,
    reasoning_content: Option<Value>,
    tool_calls: Option<Vec<Value>>,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

impl OpenAiReader {
    fn whole(&mut self, json: &[u8], nouns: &mut Vec<Frame>) -> Result<()> {
        if let Some(failure) = glance::glance(json).failure {
            return Err(failure);
        }
        let body: Body =
            serde_json::from_slice(json).map_err(|e| invalid_answer("the upstream sent broken JSON").because(e))?;
        let usage = body.usage.and_then(|told| serde_json::from_value::<WireUsage>(told).ok()).map(Usage::from);
        if let Some(choices) = body.choices {
            nouns.extend(self.fields(body.rest));
            // The typed API is one answer; further ones go only to clients of the same dialect, as bytes.
            choices.into_iter().filter(|c| c.index.unwrap_or(0) == 0).for_each(|c| self.choice(c, nouns));
            nouns.extend(usage.map(|usage| Frame::Event(Event::Usage(usage))));
            return Ok(());
        }
        nouns.push(single(Fields::new(body.rest), usage)?);
        Ok(())
    }

    fn choice(&mut self, mut it: Choice, nouns: &mut Vec<Frame>) {
        // Some servers say it again with the cost, and a reply ends once.
        it.finish_reason = it.finish_reason.filter(|reason| !reason.is_empty() && !self.has_ended);
        self.has_begun = true;
        self.has_ended |= it.finish_reason.is_some();
        choice(it, nouns);
    }

    /// The finish of a server that never said why it ended, and has nothing more to say.
    fn forgotten_finish(&mut self) -> Option<Frame> {
        let is_forgotten = self.has_begun && !std::mem::replace(&mut self.has_ended, true);
        is_forgotten.then_some(Frame::Event(Event::Finish(FinishReason::Stop)))
    }

    /// What was not told yet of the fields that we do not know.
    fn fields(&mut self, mut rest: Map<String, Value>) -> Option<Frame> {
        rest.retain(|name, value| {
            !value.is_null() && !matches!(name.as_str(), "object" | "created") && self.told.get(name) != Some(value)
        });
        self.told.extend(rest.clone());
        (!rest.is_empty()).then_some(Frame::Event(Event::ReplyFields(rest)))
    }
}

/// Answers of one frame.
fn single(mut body: Fields, usage: Option<Usage>) -> Result<Frame> {
    let nonsense = |e: Error| invalid_answer("the upstream answered something that is no answer").because(e);
    if let Some(data) = body.take("data").map_err(nonsense)? {
        return list(data, usage);
    }
    if let Some(results) = body.take("results").map_err(nonsense)? {
        return Ok(Frame::Ranking(Ranking { results, usage, ..Ranking::default() }));
    }
    if let Some(text) = body.take("prompt").map_err(nonsense)? {
        return Ok(Frame::Text(text));
    }
    let count = body.need("count").map_err(nonsense)?;
    let max_model_len = body.take("max_model_len").map_err(nonsense)?;
    let tokens = body.take("tokens").map_err(nonsense)?.unwrap_or_default();
    Ok(Frame::Tokens(Tokens { count, max_model_len, tokens }))
}

fn choice(mut choice: Choice, nouns: &mut Vec<Frame>) {
    if choice.message.is_some() {
        choice.finish_reason.get_or_insert_with(|| "stop".into()); // a whole answer has ended, whether it says so or not
    }
    let mut say = |event| nouns.push(Frame::Event(event));
    let full = |text: Option<String>| text.filter(|t| !t.is_empty());
    if let Some(said) = choice.delta.or(choice.message) {
        let (text, thought) = words(said.content);
        // vLLM renamed the field; some servers send both with the same words, Mistral's are among the parts.
        let fields = [said.reasoning, said.reasoning_content].into_iter().map(|field| words(field).0);
        let thought = fields.chain([thought]).find(|words| !words.is_empty());
        thought.map(Event::Reasoning).map(&mut say);
        full(Some(text)).map(Event::Text).map(&mut say);
        said.tool_calls.into_iter().flatten().map(Event::ToolCall).for_each(&mut say);
        choice.rest.extend(said.rest.into_iter().filter(|(name, _)| name != "role"));
    }
    full(choice.text).map(Event::Text).map(&mut say);
    choice.logprobs.filter(|l| !l.is_null()).map(Event::Logprobs).map(&mut say);
    choice.rest.retain(|_, value| !value.is_null());
    Some(choice.rest).filter(|rest| !rest.is_empty()).map(Event::MessageFields).map(&mut say);
    full(choice.finish_reason).map(|r| Event::Finish(r.as_str().into())).map(&mut say);
}

/// What is said and what is thought, as a text or in parts.
fn words(content: Option<Value>) -> (String, String) {
    let (mut text, mut thought) = (String::new(), String::new());
    match content {
        Some(Value::String(all)) => text = all,
        Some(Value::Array(parts)) => {
            for mut part in parts {
                text += part["text"].as_str().unwrap_or_default();
                thought += &words(part.get_mut("thinking").map(Value::take)).0;
            }
        }
        _ => {}
    }
    (text, thought)
}

/// A list is of embeddings, of scores or of models.
fn list(data: Vec<Value>, usage: Option<Usage>) -> Result<Frame> {
    let broken = |e| invalid_answer("the upstream sent a list of something else").because(e);
    if data.first().is_some_and(|item| item.get("embedding").is_some()) {
        let mut rows: Vec<Row> =
            data.into_iter().map(serde_json::from_value).collect::<Result<_, _>>().map_err(broken)?;
        rows.sort_by_key(|row| row.index); // they are promised in order, and do not always come so
        let vectors = rows.into_iter().map(|row| row.embedding.numbers()).collect::<Result<_>>()?;
        return Ok(Frame::Vectors(Embeddings { vectors, usage, ..Embeddings::default() }));
    }
    if data.first().is_some_and(|item| item.get("score").is_some()) {
        let mut rows: Vec<Scored> =
            data.into_iter().map(serde_json::from_value).collect::<Result<_, _>>().map_err(broken)?;
        rows.sort_by_key(|row| row.index);
        return Ok(Frame::Scores(Scores {
            scores: rows.into_iter().map(|row| row.score).collect(),
            usage,
            ..Scores::default()
        }));
    }
    let models = data.into_iter().map(serde_json::from_value).collect::<Result<_, _>>().map_err(broken)?;
    Ok(Frame::Models(models))
}

#[derive(Deserialize)]
struct Scored {
    #[serde(default)]
    index: usize,
    score: f32,
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

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(frames: &[&str]) -> Vec<Frame> {
        let (mut reader, mut nouns) = (OpenAiReader::default(), Vec::new());
        frames.iter().for_each(|frame| reader.read(frame.as_bytes(), &mut nouns).unwrap());
        nouns
    }

    fn answer(frames: &[&str]) -> ChatReply {
        let mut reply = ChatReply::default();
        for frame in read(frames) {
            let Frame::Event(event) = frame else { panic!("{frame:?}") };
            reply.add(event);
        }
        reply
    }

    #[test]
    fn a_stream_tells_its_unknown_fields_once() {
        let chunk = |delta: &str| {
            format!(
                "data: {{\"id\":\"c1\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"m\",\"system_fingerprint\":\"f\",\"choices\":[{{\"index\":0,{delta}}}]}}\n\n"
            )
        };
        let chunks = [
            chunk("\"delta\":{\"role\":\"assistant\",\"content\":\"\"}"),
            chunk("\"delta\":{\"content\":\"a\"}"),
            chunk("\"delta\":{},\"finish_reason\":\"stop\",\"stop_reason\":151645"),
        ];
        let nouns = read(&chunks.each_ref().map(String::as_str));
        let told = nouns.iter().filter(|n| matches!(n, Frame::Event(Event::ReplyFields(_)))).count();
        assert_eq!(told, 1);
        let reply = answer(&chunks.each_ref().map(String::as_str));
        assert_eq!((reply.id.as_str(), reply.model.as_str(), reply.text.as_str()), ("c1", "m", "a"));
        assert_eq!(Value::Object(reply.extra), json!({"system_fingerprint": "f", "stop_reason": 151645}));
    }

    #[test]
    fn what_hosts_say_in_shapes_of_their_own_is_understood() {
        let mistral = answer(&[
            r#"{"choices":[{"message":{"content":[{"type":"thinking","thinking":[{"type":"text","text":"Hm."}]},{"type":"text","text":"Yes"}]},"finish_reason":"stop"}]}"#,
        ]);
        assert_eq!((mistral.reasoning.as_str(), mistral.text.as_str()), ("Hm.", "Yes"));
        let together = answer(&[
            r#"{"prompt":[],"choices":[{"message":{"content":"Yes","reasoning":"","reasoning_content":"Hm."},"finish_reason":"eos"}],"usage":{"prompt_tokens":1.5}}"#,
        ]);
        assert_eq!((together.reasoning.as_str(), together.finish_reason), ("Hm.", Some(FinishReason::Stop)));
        assert!(together.usage.is_none(), "what cannot be read is not told");
    }

    #[test]
    fn log_probabilities_of_both_shapes_are_typed() {
        let chat = answer(&[
            r#"{"choices":[{"message":{"content":"a"},"logprobs":{"content":[{"token":"a","logprob":-0.5,"bytes":[97],
            "top_logprobs":[{"token":"a","logprob":-0.5,"bytes":[97]},{"token":"b","logprob":-1.5,"bytes":null}]}]}}],"usage":{"completion_tokens_details":{"reasoning_tokens":3}}}"#,
        ]);
        assert_eq!((chat.logprobs[0].logprob, chat.logprobs[0].top_logprobs[1].token.as_str()), (-0.5, "b"));
        assert_eq!(chat.usage.unwrap().reasoning_tokens, Some(3));
        let text = answer(&[
            r#"{"choices":[{"text":"a","finish_reason":"stop","logprobs":{"tokens":["a"],"token_logprobs":[-0.25],"top_logprobs":[null],"text_offset":[0]}}]}"#,
        ]);
        assert_eq!((text.logprobs[0].token.as_str(), text.logprobs[0].logprob), ("a", -0.25));
    }

    #[test]
    fn rankings_and_scores_are_understood() {
        let ranking = r#"{"id":"r","model":"m","usage":{"total_tokens":9},"results":[{"index":1,"document":{"text":"b"},"relevance_score":0.9},{"index":0,"relevance_score":0.1}]}"#;
        let Some(Frame::Ranking(ranking)) = read(&[ranking]).pop() else { panic!("no ranking") };
        assert_eq!((ranking.results[0].index, ranking.usage.unwrap().prompt_tokens), (1, 9));
        assert_eq!(ranking.results[0].extra["document"]["text"], "b");
        let scores =
            r#"{"data":[{"index":1,"object":"score","score":0.25},{"index":0,"object":"score","score":0.75}]}"#;
        let Some(Frame::Scores(scores)) = read(&[scores]).pop() else { panic!("no scores") };
        assert_eq!(scores.scores, [0.75, 0.25]);
    }
}
