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
        let mut body: Body =
            serde_json::from_slice(json).map_err(|e| invalid_answer("the upstream sent broken JSON").because(e))?;
        let cost = body.usage.take();
        let usage = cost.as_ref().and_then(|told| WireUsage::deserialize(told).ok()).map(Usage::from);
        // What the typed cost has no place for stands among the fields of the reply.
        body.rest.extend(cost.and_then(glance::unknown).map(|more| ("usage".to_owned(), more)));
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
        it.finish_reason = it.finish_reason.filter(|reason| !reason.is_empty());
        if it.delta.is_none() && it.message.is_some() {
            it.finish_reason.get_or_insert_with(|| "stop".into()); // a whole answer has ended, whether it says so or not
        }
        it.finish_reason = it.finish_reason.filter(|_| !self.has_ended);
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
        rest.retain(|name, value| is_news(name, value) && self.told.get(name) != Some(value));
        self.told.extend(rest.clone());
        (!rest.is_empty()).then_some(Frame::Event(Event::ReplyFields(rest)))
    }
}

/// Answers of one frame.
fn single(mut body: Fields, usage: Option<Usage>) -> Result<Frame> {
    let nonsense = |e: Error| invalid_answer("the upstream answered something that is no answer").because(e);
    if let Some(data) = body.take("data").map_err(nonsense)? {
        return list(data, usage, told(body));
    }
    if let Some(results) = body.take("results").map_err(nonsense)? {
        return Ok(Frame::Ranking(Ranking { results, usage, extra: told(body), ..Ranking::default() }));
    }
    if let Some(text) = body.take("prompt").map_err(nonsense)? {
        return Ok(Frame::Text(text));
    }
    let count = body.need("count").map_err(nonsense)?;
    let max_model_len = body.take("max_model_len").map_err(nonsense)?;
    let tokens = body.take("tokens").map_err(nonsense)?.unwrap_or_default();
    Ok(Frame::Tokens(Tokens { count, max_model_len, tokens, extra: told(body) }))
}

/// The fields that we do not know.
fn told(body: Fields) -> Map<String, Value> {
    let mut rest = body.rest();
    rest.retain(|name, value| is_news(name, value));
    rest
}

/// Whether a field of a reply is worth a place among those that we do not know.
fn is_news(name: &str, value: &Value) -> bool {
    !value.is_null() && !matches!(name, "object" | "created")
}

fn choice(mut choice: Choice, nouns: &mut Vec<Frame>) {
    let mut say = |event| nouns.push(Frame::Event(event));
    choice.logprobs.filter(|l| !l.is_null()).map(Event::Logprobs).map(&mut say);
    let full = |text: Option<String>| text.filter(|t| !t.is_empty());
    if let Some(said) = choice.delta.or(choice.message) {
        let (text, thought) = words(said.content);
        // vLLM renamed the field; some servers send both with the same words, Mistral's are among the parts.
        let fields = [said.reasoning, said.reasoning_content].into_iter().map(|field| words(field).0);
        let thought = fields.chain([thought]).find(|words| !words.is_empty());
        thought.map(Event::Reasoning).map(&mut say);
        full(Some(text)).map(Event::Text).map(&mut say);
        said.tool_calls.into_iter().flatten().map(Event::ToolCall).for_each(&mut say);
        let known = |(name, value): &(String, Value)| name != "role" && !value.is_null();
        let rest: Map<String, Value> = said.rest.into_iter().filter(known).collect();
        Some(rest).filter(|rest| !rest.is_empty()).map(Event::MessageFields).map(&mut say);
    }
    full(choice.text).map(Event::Text).map(&mut say);
    choice.rest.retain(|_, value| !value.is_null());
    Some(choice.rest).filter(|rest| !rest.is_empty()).map(Event::ChoiceFields).map(&mut say);
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
fn list(data: Vec<Value>, usage: Option<Usage>, extra: Map<String, Value>) -> Result<Frame> {
    let broken = |e| invalid_answer("the upstream sent a list of something else").because(e);
    if data.first().is_some_and(|item| item.get("embedding").is_some()) {
        let mut rows: Vec<Row> =
            data.into_iter().map(serde_json::from_value).collect::<Result<_, _>>().map_err(broken)?;
        rows.sort_by_key(|row| row.index); // they are promised in order, and do not always come so
        let vectors = rows.into_iter().map(|row| row.embedding.numbers()).collect::<Result<_>>()?;
        return Ok(Frame::Vectors(Embeddings { vectors, usage, extra, ..Embeddings::default() }));
    }
    if data.first().is_some_and(|item| item.get("score").is_some()) {
        let mut rows: Vec<Scored> =
            data.into_iter().map(serde_json::from_value).collect::<Result<_, _>>().map_err(broken)?;
        rows.sort_by_key(|row| row.index);
        return Ok(Frame::Scores(Scores {
            scores: rows.into_iter().map(|row| row.score).collect(),
            usage,
            extra,
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
    fn the_pieces_of_a_field_are_put_together_and_what_is_repeated_is_told_once() {
        let chunk = |delta: &str, more: &str| {
            format!("data: {{\"choices\":[{{\"index\":0,\"delta\":{{{delta}}}{more}}}]}}\n\n")
        };
        let chunks = [
            chunk(r#""refusal":"I'm""#, r#","token_ids":[1],"state":"begun""#),
            chunk(r#""refusal":" sorry","reasoning_details":[{"text":"a"}]"#, r#","token_ids":[1],"state":"done""#),
            chunk(r#""reasoning_details":[{"text":"b"}]"#, r#","finish_reason":"stop","native_finish_reason":"end""#),
            chunk("", r#","finish_reason":"stop","native_finish_reason":"end""#),
        ];
        let reply = answer(&chunks.each_ref().map(String::as_str));
        let expected = json!({"refusal": "I'm sorry", "reasoning_details": [{"text": "a"}, {"text": "b"}],
                              "token_ids": [1, 1], "state": "done", "native_finish_reason": "end"});
        assert_eq!(Value::Object(reply.extra), expected);
    }

    #[test]
    fn a_piece_that_says_the_whole_so_far_beside_what_is_new_ends_nothing() {
        let chunk = |new: &str, so_far: &str, end: &str| {
            format!(
                "data: {{\"choices\":[{{\"delta\":{{\"content\":\"{new}\"}},\"message\":{{\"content\":\"{so_far}\"}},\"finish_reason\":{end}}}]}}\n\n"
            )
        };
        let chunks = [chunk("a", "a", "null"), chunk("b", "ab", "\"stop\"")];
        let nouns = read(&chunks.each_ref().map(String::as_str));
        let ends = nouns.iter().filter(|noun| matches!(noun, Frame::Event(Event::Finish(_)))).count();
        assert_eq!((ends, answer(&chunks.each_ref().map(String::as_str)).text.as_str()), (1, "ab"));
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
        let first = &text.logprobs[0];
        assert_eq!((first.token.as_str(), first.logprob, &first.extra["text_offset"]), ("a", -0.25, &json!(0)));
        let both = answer(&[
            r#"{"choices":[{"text":"a b","finish_reason":"stop","logprobs":{"tokens":["a"," b"],"token_logprobs":[null,-1.0],
            "top_logprobs":[null,{" c":-2.0," b":-1.0}],"text_offset":[0,1]}}]}"#,
        ]);
        let likely: Vec<_> = both.logprobs[1].top_logprobs.iter().map(|l| (l.token.as_str(), l.logprob)).collect();
        assert_eq!((both.logprobs.len(), likely), (2, vec![(" b", -1.0), (" c", -2.0)]));
    }

    #[test]
    fn what_the_types_have_no_place_for_survives() {
        let chat = answer(&[
            r#"{"choices":[{"message":{"content":"a"},"finish_reason":"stop","logprobs":{"content":[{"token":"a","logprob":-0.5,"id":7}]}}],
            "usage":{"prompt_tokens":3,"completion_tokens":1,"total_tokens":4,"cost":0.01,"prompt_tokens_details":{"cached_tokens":2,"audio_tokens":1},
            "completion_tokens_details":{"reasoning_tokens":0},"cost_details":null}}"#,
        ]);
        assert_eq!(chat.extra["usage"], json!({"cost": 0.01, "prompt_tokens_details": {"audio_tokens": 1}}));
        assert_eq!((&chat.logprobs[0].extra["id"], chat.usage.unwrap().cached_tokens), (&json!(7), Some(2)));
        let Some(Frame::Vectors(vectors)) = read(&[
            r#"{"object":"list","id":"e","model":"m","data":[{"index":0,"embedding":[1.0]}],"usage":{"prompt_tokens":1,"cost":2}}"#,
        ])
        .pop() else {
            panic!("no vectors")
        };
        assert_eq!(Value::Object(vectors.extra), json!({"id": "e", "model": "m", "usage": {"cost": 2}}));
        let Some(Frame::Tokens(tokens)) = read(&[r#"{"count":1,"tokens":[5],"token_strs":["a"]}"#]).pop() else {
            panic!("no tokens")
        };
        assert_eq!(Value::Object(tokens.extra), json!({"token_strs": ["a"]}));
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
