//! A conversation as vLLM gives it to chat templates: arguments as objects, contents as one text or as parts.
use minijinja::Value;
use serde::Deserialize;

use super::of_json;
use crate::call::{Content, Message, Part, Role, ToolCall};
use crate::error::{Error, Kind, Result};

/// Whether a template has a loop over a message's content.
pub(super) fn goes_through_parts(source: &str) -> bool {
    let tags = source.split("{%").skip(1).filter_map(|rest| rest.split("%}").next());
    let loops = tags.map(|tag| tag.trim_matches(['-', '+']).trim()).filter(|tag| tag.starts_with("for "));
    let over = loops.filter_map(|tag| tag.split_once(" in ").map(|(_, over)| over.trim()));
    let is_content = |over: &str| {
        let over = over.split([' ', '|']).next().unwrap_or_default();
        over == "content" || [".content", "['content']", "[\"content\"]"].iter().any(|end| over.ends_with(end))
    };
    over.into_iter().any(is_content)
}

/// Templates that know no developers are shown them as the system, in one message at the beginning.
pub(super) fn without_developers(messages: &[Message]) -> Option<Vec<Message>> {
    let is_system = |m: &&Message| matches!(m.role, Role::System | Role::Developer);
    messages.iter().find(|m| m.role == Role::Developer)?;
    let words: Vec<_> = messages.iter().filter(is_system).map(|m| text(&m.content)).collect();
    let others = messages.iter().filter(|m| !is_system(m)).cloned();
    Some([Message::system(words.join("\n\n"))].into_iter().chain(others).collect())
}

/// One message with its fields.
pub(super) fn message(message: &Message, wants_parts: bool) -> Result<Value> {
    let has_text_alone = |part: &Part| part.as_text().is_some();
    if let Some(part) = message.content.parts().find(|part| !has_text_alone(part)) {
        let what = format!("a part of the kind `{}` is not counted here: only its host knows its tokens", part.kind());
        return Err(Error::new(Kind::Unsupported, what).param("messages"));
    }
    // A tool's result is one text, whatever the template does with other contents.
    let in_parts = wants_parts && message.role != Role::Tool;
    let role = serde_json::to_value(message.role).map_or_else(|_| Value::default(), |role| of_json(&role));
    let mut fields = vec![("role".to_owned(), role)];
    fields.push(("content".to_owned(), if in_parts { parts(&message.content) } else { text(&message.content).into() }));
    if !message.tool_calls.is_empty() {
        fields.push(("tool_calls".to_owned(), Value::from_iter(message.tool_calls.iter().map(tool_call))));
    }
    if let Some(reasoning) = message.extra.get("reasoning") {
        fields.push(("reasoning_content".to_owned(), of_json(reasoning))); // its older name
    }
    fields.extend(message.extra.iter().map(|(name, value)| (name.clone(), of_json(value))));
    Ok(Value::from_pairs(fields))
}

/// A line between two parts, as vLLM has it.
fn text(content: &Content) -> String {
    content.parts().filter_map(|part| part.as_text().map(str::to_owned)).collect::<Vec<_>>().join("\n")
}

fn parts(content: &Content) -> Value {
    let part = |text: &str| Value::from_pairs([("type", "text"), ("text", text)]);
    Value::from_iter(content.parts().filter_map(|p| p.as_text().map(part)))
}

/// Templates want the arguments as an object; what is none is an empty one.
fn tool_call(call: &ToolCall) -> Value {
    let arguments = serde_json::from_str::<Value>(&call.function.arguments).unwrap_or_default();
    let is_object = arguments.kind() == minijinja::value::ValueKind::Map;
    let arguments = if is_object { arguments } else { Value::from_pairs([("", ""); 0]) };
    let function = Value::from_pairs([("name", Value::from(call.function.name.clone())), ("arguments", arguments)]);
    Value::from_pairs([("id", call.id.clone().into()), ("type", call.kind.clone().into()), ("function", function)])
}

/// The tools in the order in which vLLM writes their fields; what stands inside their schemas keeps its own.
pub(super) fn tools(json: &[u8]) -> Result<Value> {
    let wrong = |e| Error::invalid("`tools` must be a list of functions").param("tools").because(e);
    let tools: Vec<Tool> = serde_json::from_slice(json).map_err(wrong)?;
    Ok(tools.into_iter().map(Tool::shown).collect())
}

#[derive(Deserialize)]
struct Tool {
    function: Function,
}

#[derive(Deserialize)]
struct Function {
    name: String,
    #[serde(default)]
    description: Option<String>,
    #[serde(default)]
    parameters: Value,
    #[serde(default)]
    strict: Option<bool>,
}

impl Tool {
    fn shown(self) -> Value {
        let Function { name, description, parameters, strict } = self.function;
        let parameters = if parameters.is_undefined() { Value::from(()) } else { parameters };
        let description = description.map_or(Value::from(()), Value::from);
        let fields = [("name", name.into()), ("description", description), ("parameters", parameters)];
        let strict = strict.map(|strict| ("strict", strict.into()));
        let function = Value::from_pairs(fields.into_iter().chain(strict));
        Value::from_pairs([("type", Value::from("function")), ("function", function)])
    }
}
