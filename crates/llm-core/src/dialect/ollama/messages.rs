//! Messages both ways: Ollama's images stand beside the words, its calls have objects as arguments and often no ids.
use std::collections::VecDeque;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::call::{Content, Image, Message, Part, Role, ToolCall};
use crate::error::{Error, Kind, Result};

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Said {
    role: String,
    content: Option<String>,
    thinking: Option<String>,
    images: Option<Vec<String>>,
    tool_calls: Option<Vec<ToolCall>>,
    tool_name: Option<String>,
    tool_call_id: Option<String>,
}

/// A client's messages. Calls without ids get some, and results find the call that they answer.
pub(super) fn read(said: Vec<Said>) -> Result<Vec<Message>> {
    let (mut open, mut count) = (VecDeque::new(), 0);
    let at = |i: usize| move |error: Error| error.param(format!("messages[{i}]"));
    said.into_iter().enumerate().map(|(i, said)| message(said, &mut open, &mut count).map_err(at(i))).collect()
}

/// A call that waits for its result: its function and its id.
type Open = VecDeque<(String, String)>;

fn message(said: Said, open: &mut Open, count: &mut usize) -> Result<Message> {
    let mut message = Message::new(role(&said.role)?, said.content.unwrap_or_default());
    for image in said.images.into_iter().flatten() {
        message.content.push(picture(&image)?);
    }
    if let Some(thinking) = said.thinking.filter(|thinking| !thinking.is_empty()) {
        message.extra.insert("reasoning".into(), thinking.into());
    }
    message.tool_calls = said.tool_calls.unwrap_or_default();
    for call in &mut message.tool_calls {
        if call.id.is_empty() {
            call.id = format!("call_{count}");
            *count += 1;
        }
        call.function.extra.remove("index");
        open.push_back((call.function.name.clone(), call.id.clone()));
    }
    if message.role == Role::Tool {
        let id = said.tool_call_id.filter(|id| !id.is_empty()).or_else(|| answered(open, said.tool_name.as_deref()));
        message.extra.extend(id.map(|id| ("tool_call_id".to_owned(), id.into())));
        message.extra.extend(said.tool_name.map(|name| ("name".to_owned(), name.into())));
    }
    Ok(message)
}

/// The id of the first open call of this function; of any, if the result names none.
fn answered(open: &mut Open, name: Option<&str>) -> Option<String> {
    let place = open.iter().position(|(function, _)| name.is_none_or(|name| name == function))?;
    open.remove(place).map(|(_, id)| id)
}

fn role(word: &str) -> Result<Role> {
    let wrong = |_| Error::invalid(format!("`role` must be system, user, assistant or tool, not {word:?}"));
    serde_json::from_value(Value::from(word.to_lowercase())).map_err(wrong)
}

/// An image in base64; some clients leave the data URL around it.
pub(super) fn picture(text: &str) -> Result<Part> {
    if text.starts_with("data:") {
        return Ok(Image::url(text).into());
    }
    Ok(Image::from_base64(text)?.into())
}

/// Messages for a host.
pub(super) fn write(messages: &[Message]) -> Result<Vec<Value>> {
    let at = |i: usize| move |error: Error| error.param(format!("messages[{i}]"));
    messages.iter().enumerate().map(|(i, message)| said(message, &messages[..i]).map_err(at(i))).collect()
}

fn said(message: &Message, before: &[Message]) -> Result<Value> {
    let role = if message.role == Role::Developer { Role::System } else { message.role };
    let text = message.content.text();
    let mut said = Map::from_iter([("role".to_owned(), json!(role)), ("content".to_owned(), text.into())]);
    let images = images(&message.content)?;
    if !images.is_empty() {
        said.insert("images".into(), images.into());
    }
    let thought = ["reasoning", "reasoning_content", "thinking"].iter().find_map(|name| message.extra.get(*name));
    if let Some(Value::String(thought)) = thought {
        said.insert("thinking".into(), thought.clone().into());
    }
    if !message.tool_calls.is_empty() {
        said.insert("tool_calls".into(), message.tool_calls.iter().map(call).collect::<Result<Vec<_>>>()?.into());
    }
    if let Some(Value::String(id)) = message.extra.get("tool_call_id") {
        let calls = before.iter().flat_map(|message| &message.tool_calls);
        let name = calls.rev().find(|call| call.id == *id).map(|call| call.function.name.clone());
        said.extend(name.map(|name| ("tool_name".to_owned(), name.into())));
        said.insert("tool_call_id".into(), id.clone().into());
    }
    Ok(said.into())
}

/// Whatever is no words must be an image: leaving a sound out would change the question.
fn images(content: &Content) -> Result<Vec<Value>> {
    let Content::Parts(parts) = content else { return Ok(Vec::new()) };
    parts.iter().filter(|part| part.as_text().is_none()).map(image).collect()
}

fn image(part: &Part) -> Result<Value> {
    let cannot = |what: String| Error::new(Kind::Unsupported, what);
    let url = part.image_url().ok_or_else(|| cannot(format!("Ollama takes no part of the type {:?}", part.kind())))?;
    let data = url.strip_prefix("data:").and_then(|data| data.split_once(";base64,"));
    let (_, base64) = data
        .ok_or_else(|| cannot("Ollama fetches no images: send the image itself, as a data URL in base64".to_owned()))?;
    Ok(base64.into())
}

fn call(call: &ToolCall) -> Result<Value> {
    let arguments: Map<String, Value> = call.arguments().map_err(|e| e.as_kind(Kind::Invalid))?;
    let mut written = json!({"function": {"name": call.function.name, "arguments": arguments}});
    if !call.id.is_empty() {
        written["id"] = call.id.clone().into();
    }
    Ok(written)
}

/// Calls in an answer for a client, put together from their fragments.
pub(super) fn calls(calls: &[ToolCall]) -> Value {
    let one = |(index, call): (usize, &ToolCall)| {
        // What is no object stays readable: better than an answer that is lost to a comma.
        let arguments = call.arguments::<Map<String, Value>>().map(Value::Object);
        let arguments = arguments.unwrap_or_else(|_| json!({"arguments": call.function.arguments}));
        json!({"id": call.id, "function": {"index": index, "name": call.function.name, "arguments": arguments}})
    };
    calls.iter().enumerate().map(one).collect()
}
