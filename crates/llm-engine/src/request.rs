//! From the house's questions to the engine's: what is understood, and a clear word about what is not.

use crate::engine::Wish;
use crate::logprobs::{Style, Wanted};
use llm_core::{ChatRequest, CompleteRequest, Content, EmbedRequest, Error, Kind, Message, Result, Sampling};
use serde_json::{Map, Value};

/// Fields that change what an answer must be. To ignore one would be a wrong answer; so it is refused unless it says what
/// the engine does anyway. Fields not listed are hints that can be left aside (`user`, `store`, `metadata` ..).
const UNSUPPORTED: &[(&str, Harmless)] = &[
    ("response_format", |value| value["type"] == "text"),
    ("guided_json", is_nothing),
    ("guided_regex", is_nothing),
    ("guided_grammar", is_nothing),
    ("guided_choice", is_nothing),
    ("structured_outputs", is_nothing),
    ("functions", is_nothing),
    ("function_call", |value| is_nothing(value) || value == "none"),
    ("audio", is_nothing),
    ("modalities", |value| is_nothing(value) || *value == serde_json::json!(["text"])),
    ("best_of", |value| is_nothing(value) || value == 1),
    ("suffix", is_nothing),
    ("echo", is_nothing),
    ("prompt_logprobs", is_nothing),
    ("use_beam_search", is_nothing),
    ("min_tokens", is_nothing),
    ("stop_token_ids", is_nothing),
    ("bad_words", is_nothing),
    ("continue_final_message", is_nothing),
];

type Harmless = fn(&Value) -> bool;

fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(_) | Value::Bool(true) => false,
    }
}

pub(crate) fn chat(request: &ChatRequest) -> Result<Wish> {
    refuse_unsupported(&request.extra)?;
    refuse_several(request.n)?;
    let logprobs = flag(&request.extra, "logprobs")?.then(|| top(&request.extra, "top_logprobs", 20)).transpose()?;
    wish(&request.sampling, logprobs.map(|top| Wanted { top, style: Style::Chat }), &request.extra)
}

pub(crate) fn complete(request: &CompleteRequest) -> Result<Wish> {
    refuse_unsupported(&request.extra)?;
    refuse_several(request.n)?;
    let wanted = request.extra.get("logprobs").is_some_and(|value| !value.is_null());
    let logprobs = wanted.then(|| top(&request.extra, "logprobs", 20)).transpose()?;
    wish(&request.sampling, logprobs.map(|top| Wanted { top, style: Style::Completion }), &request.extra)
}

fn wish(sampling: &Sampling, logprobs: Option<Wanted>, extra: &Map<String, Value>) -> Result<Wish> {
    Ok(Wish { sampling: sampling.clone(), logprobs, ignore_eos: flag(extra, "ignore_eos")? })
}

/// The messages as the template engine reads them; it knows text only.
pub(crate) fn messages(messages: &[Message]) -> Result<Value> {
    if messages.is_empty() {
        return Err(Error::invalid("`messages` must have at least one message").param("messages"));
    }
    for message in messages {
        refuse_media(&message.content)?;
    }
    serde_json::to_value(messages).map_err(|e| Error::invalid("`messages` cannot be JSON").param("messages").because(e))
}

fn refuse_media(content: &Content) -> Result<()> {
    let Content::Parts(parts) = content else { return Ok(()) };
    for part in parts {
        let kind = part.kind();
        if kind != "text" {
            let why = format!("this model reads text only, not `{kind}`; send it to a model that can see");
            return Err(Error::new(Kind::Unsupported, why).param("messages"));
        }
    }
    Ok(())
}

/// What is embedded are texts, and at least one: nobody would ever answer a question for no vector.
pub(crate) fn refuse_what_is_no_text(embed: &EmbedRequest) -> Result<()> {
    if !embed.messages.is_empty() {
        let why = "the engine embeds texts, not `messages`: send `input`, or images to a model on vLLM";
        return Err(Error::new(Kind::Unsupported, why).param("messages"));
    }
    match embed.input.is_empty() {
        true => Err(Error::invalid("`input` must have at least one text").param("input")),
        false => Ok(()),
    }
}

/// Calls that a model writes would come back as text, which no client understands. `tool_choice: "none"` hides tools.
pub(crate) fn refuse_tools(tools: &[Value], extra: &Map<String, Value>) -> Result<()> {
    let hidden = extra.get("tool_choice").is_some_and(|choice| choice == "none");
    if tools.is_empty() || hidden {
        return Ok(());
    }
    Err(Error::new(Kind::Unsupported, "the engine does not call tools; vLLM does").param("tools"))
}

/// Values for the chat template, such as `{"enable_thinking": false}`.
pub(crate) fn kwargs(extra: &Map<String, Value>) -> Result<Option<&Map<String, Value>>> {
    match extra.get("chat_template_kwargs") {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Object(kwargs)) => Ok(Some(kwargs)),
        Some(_) => Err(invalid("chat_template_kwargs", "an object")),
    }
}

fn refuse_unsupported(extra: &Map<String, Value>) -> Result<()> {
    let refused = |(field, harmless): &&(&str, Harmless)| extra.get(*field).is_some_and(|value| !harmless(value));
    match UNSUPPORTED.iter().find(refused) {
        Some((field, _)) => {
            Err(Error::new(Kind::Unsupported, format!("the engine does not support `{field}`; vLLM does"))
                .param(*field))
        }
        None => Ok(()),
    }
}

fn refuse_several(n: Option<u32>) -> Result<()> {
    match n {
        None | Some(1) => Ok(()),
        Some(_) => {
            Err(Error::new(Kind::Unsupported, "the engine gives one answer: send the request `n` times").param("n"))
        }
    }
}

fn invalid(field: &str, what: &str) -> Error {
    Error::invalid(format!("`{field}` must be {what}")).param(field)
}

fn flag(extra: &Map<String, Value>, field: &str) -> Result<bool> {
    match extra.get(field) {
        None | Some(Value::Null) => Ok(false),
        Some(value) => value.as_bool().ok_or_else(|| invalid(field, "true or false")),
    }
}

fn top(extra: &Map<String, Value>, field: &str, most: u64) -> Result<usize> {
    let value = extra.get(field).filter(|value| !value.is_null());
    let top = value.map_or(Some(0), Value::as_u64).filter(|top| *top <= most);
    top.map(|top| top as usize).ok_or_else(|| invalid(field, &format!("a number from 0 to {most}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn refusal(field: &str, value: Value) -> Option<Error> {
        chat(&ChatRequest::new("?").extra(field, value)).err()
    }

    #[test]
    fn what_would_change_the_answer_is_refused_by_name() {
        let error = refusal("response_format", json!({"type": "json_object"})).unwrap();
        assert_eq!((error.kind(), error.get_param()), (Kind::Unsupported, Some("response_format")));
        assert!(refusal("response_format", json!({"type": "text"})).is_none());
        assert!(refusal("user", json!("ann")).is_none());
        assert!(refusal("suffix", Value::Null).is_none());
    }

    #[test]
    fn more_than_one_answer_is_refused_by_name() {
        let error = chat(&ChatRequest { n: Some(2), ..ChatRequest::new("?") }).err().unwrap();
        assert_eq!(error.get_param(), Some("n"));
    }

    #[test]
    fn tools_are_refused_by_name_unless_they_must_not_be_used() {
        let tools = [json!({"type": "function", "function": {"name": "f"}})];
        let error = refuse_tools(&tools, &Map::new()).unwrap_err();
        assert_eq!((error.kind(), error.get_param()), (Kind::Unsupported, Some("tools")));
        let none = Map::from_iter([("tool_choice".to_owned(), json!("none"))]);
        assert!(refuse_tools(&tools, &none).is_ok() && refuse_tools(&[], &Map::new()).is_ok());
    }

    #[test]
    fn nothing_to_embed_is_the_callers_mistake_and_a_conversation_is_no_text() {
        let refused = |request: EmbedRequest| refuse_what_is_no_text(&request).err().map(|error| error.kind());
        assert_eq!(refused(EmbedRequest::new(["a"])), None);
        assert_eq!(refused(EmbedRequest::default()), Some(Kind::Invalid));
        let conversation = EmbedRequest { messages: vec![Message::user("a")], ..EmbedRequest::default() };
        assert_eq!(refused(conversation), Some(Kind::Unsupported));
    }

    #[test]
    fn nobody_answers_no_message() {
        assert_eq!(messages(&[]).unwrap_err().get_param(), Some("messages"));
    }

    #[test]
    fn images_are_refused_before_the_template_sees_them() {
        let part = json!({"type": "image_url", "image_url": {"url": "data:,"}});
        let content = Content::Parts(vec![llm_core::Part(part.as_object().unwrap().clone())]);
        let error = messages(&[Message { content, ..Message::user("") }]).unwrap_err();
        assert_eq!((error.kind(), error.get_param()), (Kind::Unsupported, Some("messages")));
    }

    #[test]
    fn log_probabilities_are_asked_for_as_openai_does() {
        let wish = chat(&ChatRequest::new("?").extra("logprobs", true).extra("top_logprobs", 3)).unwrap();
        assert_eq!(wish.logprobs.unwrap().top, 3);
        assert!(refusal("top_logprobs", json!(1)).is_none());
        assert!(chat(&ChatRequest::new("?").extra("logprobs", true).extra("top_logprobs", 99)).is_err());
    }
}
