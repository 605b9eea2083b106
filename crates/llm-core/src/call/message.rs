//! Messages: who says what, in words and images, and which tools it wants called.
use std::borrow::Cow;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value, json};

use super::{Image, ToolCall};

/// Who says a message.
///
/// ```
/// use llm_core::{Message, Role};
/// assert_eq!(Message::tool("call_1", "sunny").role, Role::Tool);
/// assert_eq!(Message::new(Role::Developer, "Be short.").content.text(), "Be short.");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Instructions.
    System,
    /// Instructions, in OpenAI's newer word.
    Developer,
    /// The one who asks.
    User,
    /// The model.
    Assistant,
    /// A tool's result.
    Tool,
}

/// One message of a conversation.
///
/// ```
/// use llm_core::{Message, Role};
/// let message = Message::user("What is this?");
/// assert_eq!((message.role, message.content.text().as_str()), (Role::User, "What is this?"));
/// let conversation = vec![Message::system("Answer in one word."), message, Message::assistant("A cat.")];
/// assert_eq!(llm_core::ChatRequest::from(conversation).messages.len(), 3);
/// assert_eq!(Message::new(Role::Developer, "Be short.").content.text(), "Be short.");
/// assert_eq!(Message::tool("call_1", "sunny").extra["tool_call_id"], "call_1");
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Message {
    /// Who says it.
    pub role: Role,
    /// What is said; an assistant that only calls tools says nothing.
    #[serde(default)]
    pub content: Content,
    /// Tools that the assistant wants called.
    #[serde(default, deserialize_with = "null_is_none", skip_serializing_if = "Vec::is_empty")]
    pub tool_calls: Vec<ToolCall>,
    /// Every other field, as it came: `name`, `tool_call_id`, `reasoning`, ..
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

fn null_is_none<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<ToolCall>, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

impl Message {
    /// A message with this text.
    pub fn new(role: Role, text: impl Into<String>) -> Message {
        Message { role, content: Content::Text(text.into()), tool_calls: Vec::new(), extra: Map::new() }
    }
    /// Instructions.
    pub fn system(text: impl Into<String>) -> Message {
        Message::new(Role::System, text)
    }
    /// A question.
    pub fn user(text: impl Into<String>) -> Message {
        Message::new(Role::User, text)
    }
    /// An earlier answer.
    pub fn assistant(text: impl Into<String>) -> Message {
        Message::new(Role::Assistant, text)
    }
    /// What a tool said when the call with this id was made.
    pub fn tool(call_id: impl Into<String>, result: impl Into<String>) -> Message {
        let mut message = Message::new(Role::Tool, result);
        message.extra.insert("tool_call_id".into(), call_id.into().into());
        message
    }
}

/// What a message says.
///
/// ```
/// use llm_core::{Content, Image, Part};
/// let mut content = Content::Text("What is this?".into());
/// content.push(Image::url("data:image/png;base64,iVBORw0KGgo=").into());
/// content.push(Part::text(" And why?"));
/// assert_eq!((content.parts().count(), content.text().as_str()), (3, "What is this? And why?"));
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Content {
    /// Plain text.
    Text(String),
    /// Texts and images in order.
    Parts(Vec<Part>),
    /// Nothing: JSON's null.
    Nothing(()),
}

impl Default for Content {
    fn default() -> Self {
        Content::Nothing(())
    }
}

impl Content {
    /// All its text.
    pub fn text(&self) -> String {
        match self {
            Content::Text(text) => text.clone(),
            Content::Parts(parts) => parts.iter().filter_map(Part::as_text).collect(),
            Content::Nothing(()) => String::new(),
        }
    }

    /// Its parts; plain text is one.
    pub fn parts(&self) -> impl Iterator<Item = Cow<'_, Part>> {
        let (text, parts) = match self {
            Content::Text(text) => (Some(Part::text(text.clone())), &[][..]),
            Content::Parts(parts) => (None, &parts[..]),
            Content::Nothing(()) => (None, &[][..]),
        };
        text.map(Cow::Owned).into_iter().chain(parts.iter().map(Cow::Borrowed))
    }

    /// Adds a part at the end. What is there moves and is not copied: an image has megabytes.
    pub fn push(&mut self, part: Part) {
        let mut parts = match std::mem::take(self) {
            Content::Text(text) if text.is_empty() => Vec::new(),
            Content::Text(text) => vec![Part::text(text)],
            Content::Parts(parts) => parts,
            Content::Nothing(()) => Vec::new(),
        };
        parts.push(part);
        *self = Content::Parts(parts);
    }
}

/// A text, an image or something else, as OpenAI writes it: `{"type":"text","text":".."}`. What we do not know stays as
/// it came.
///
/// ```
/// use llm_core::{Image, Part};
/// let (words, image) = (Part::text("hi"), Part::from(Image::url("https://example.org/cat.png")));
/// assert_eq!((words.kind(), words.as_text()), ("text", Some("hi")));
/// assert_eq!((image.kind(), image.image_url()), ("image_url", Some("https://example.org/cat.png")));
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Part(pub Map<String, Value>);

impl Part {
    /// Some words.
    pub fn text(text: impl Into<String>) -> Part {
        Part::of(json!({"type": "text", "text": text.into()}))
    }

    /// What kind of part it is: `text`, `image_url`, ..; empty if it does not say.
    pub fn kind(&self) -> &str {
        self.0.get("type").and_then(Value::as_str).unwrap_or_default()
    }

    /// Its words, if it has any.
    pub fn as_text(&self) -> Option<&str> {
        self.0.get("text")?.as_str()
    }

    /// Where its image is: an address, or a data URL.
    pub fn image_url(&self) -> Option<&str> {
        let image = self.0.get("image_url")?;
        image.get("url").unwrap_or(image).as_str()
    }

    fn of(value: Value) -> Part {
        let Value::Object(fields) = value else { unreachable!("json! made an object") };
        Part(fields)
    }
}

impl From<Image> for Part {
    fn from(image: Image) -> Part {
        let mut inside = json!({"url": image.url});
        if let Some(detail) = image.detail {
            inside["detail"] = detail.into();
        }
        Part::of(json!({"type": "image_url", "image_url": inside}))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_we_do_not_know_survives_both_ways() {
        let json = json!({"role": "assistant", "content": [{"type": "text", "text": "a", "cache_control": {"x": 1}}, {"type": "audio", "id": 7}],
            "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}", "strict": true}, "index": 0}],
            "name": "bob", "reasoning": "hm"});
        let message: Message = serde_json::from_value(json.clone()).unwrap();
        assert_eq!(message.tool_calls[0].function.name, "f");
        assert_eq!(serde_json::to_value(&message).unwrap(), json);
    }

    #[test]
    fn an_image_stands_behind_the_words() {
        let mut content = Content::Text("what?".into());
        content.push(Image::url("https://example.com/a.png").into());
        let urls: Vec<_> = content.parts().filter_map(|p| p.image_url().map(str::to_owned)).collect();
        assert_eq!(
            (content.text().as_str(), urls.as_slice()),
            ("what?", &["https://example.com/a.png".to_owned()][..])
        );
    }

    #[test]
    fn tool_calls_may_be_null() {
        let message: Message =
            serde_json::from_str(r#"{"role":"assistant","content":"hi","tool_calls":null}"#).unwrap();
        assert!(message.tool_calls.is_empty());
    }
}
