//! The questions as nouns: what a call means once somebody has understood it, whatever dialect it came in.
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// A question understood.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Request {
    /// Answer a conversation.
    Chat(ChatRequest),
    /// Go on with a text.
    Complete(CompleteRequest),
    /// Turn texts into vectors.
    Embed(EmbedRequest),
    /// Count a prompt's tokens.
    Tokenize(TokenizeRequest),
    /// Turn tokens back into text.
    Detokenize(DetokenizeRequest),
    /// List the models.
    Models,
}

/// How to choose the next token, and when to stop. Everything left out is the model's or the server's default.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Sampling {
    /// At most so many tokens are made; thinking counts.
    pub max_tokens: Option<u32>,
    /// 0 is greedy, 2 the wildest.
    pub temperature: Option<f32>,
    /// Only the likeliest tokens that together have this probability, 0 to 1.
    pub top_p: Option<f32>,
    /// Only so many of the likeliest tokens; 0 means all.
    pub top_k: Option<u32>,
    /// Only tokens at least so likely as this share of the likeliest, 0 to 1.
    pub min_p: Option<f32>,
    /// The same seed, prompt and settings give the same answer.
    pub seed: Option<u64>,
    /// The answer ends before any of these; at most 16.
    pub stop: Vec<String>,
    /// Against tokens that have been said at all, -2 to 2.
    pub presence_penalty: Option<f32>,
    /// Against tokens by how often they have been said, -2 to 2.
    pub frequency_penalty: Option<f32>,
    /// Divides the likelihood of tokens that have been said; 1 is none.
    pub repetition_penalty: Option<f32>,
    /// Token ids made likelier or (-100) impossible.
    pub logit_bias: Vec<(u32, f32)>,
}

/// A conversation to answer.
///
/// ```
/// use llm_core::ChatRequest;
/// let request = ChatRequest::new("Why is the sky blue?").system("Answer in one sentence.").temperature(0.2).max_tokens(64);
/// assert_eq!(request.messages.len(), 2);
/// ```
#[derive(Debug, Clone, Default)]
pub struct ChatRequest {
    /// Which model; empty means the default one.
    pub model: String,
    /// The conversation, oldest message first.
    pub messages: Vec<Message>,
    /// How to choose tokens.
    pub sampling: Sampling,
    /// How many alternatives; `None` is one.
    pub n: Option<u32>,
    /// Tools as OpenAI writes them.
    pub tools: Vec<Value>,
    /// Every other field, as it came: `tool_choice`, `response_format`, `chat_template_kwargs`, ..
    pub extra: Map<String, Value>,
}

impl ChatRequest {
    /// A question by the user.
    pub fn new(question: impl Into<String>) -> ChatRequest {
        ChatRequest { messages: vec![Message::user(question)], ..ChatRequest::default() }
    }

    /// Asks this model.
    pub fn model(mut self, model: impl Into<String>) -> Self {
        self.model = model.into();
        self
    }

    /// Puts instructions before everything else.
    pub fn system(mut self, text: impl Into<String>) -> Self {
        self.messages.insert(0, Message::system(text));
        self
    }

    /// Adds a message at the end.
    pub fn message(mut self, message: Message) -> Self {
        self.messages.push(message);
        self
    }

    /// 0 is greedy, 2 the wildest.
    pub fn temperature(mut self, temperature: f32) -> Self {
        self.sampling.temperature = Some(temperature);
        self
    }

    /// At most so many tokens are made.
    pub fn max_tokens(mut self, max_tokens: u32) -> Self {
        self.sampling.max_tokens = Some(max_tokens);
        self
    }

    /// The same seed, prompt and settings give the same answer.
    pub fn seed(mut self, seed: u64) -> Self {
        self.sampling.seed = Some(seed);
        self
    }

    /// The answer ends before this text.
    pub fn stop(mut self, stop: impl Into<String>) -> Self {
        self.sampling.stop.push(stop.into());
        self
    }

    /// Any other field that the provider knows.
    pub fn extra(mut self, field: impl Into<String>, value: impl Into<Value>) -> Self {
        self.extra.insert(field.into(), value.into());
        self
    }

    /// What the last message says, for small providers and tests.
    pub fn last_text(&self) -> String {
        self.messages.last().map(|m| m.content.text()).unwrap_or_default()
    }
}

impl From<&str> for ChatRequest {
    fn from(question: &str) -> Self {
        ChatRequest::new(question)
    }
}

impl From<String> for ChatRequest {
    fn from(question: String) -> Self {
        ChatRequest::new(question)
    }
}

impl From<Vec<Message>> for ChatRequest {
    fn from(messages: Vec<Message>) -> Self {
        ChatRequest { messages, ..ChatRequest::default() }
    }
}

/// Who says a message.
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
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Message {
    /// Who says it.
    pub role: Role,
    /// What is said; an assistant that only calls tools says nothing.
    #[serde(default)]
    pub content: Content,
    /// Every other field, as it came: `name`, `tool_calls`, `tool_call_id`, `reasoning`, ..
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl Message {
    /// A message with this text.
    pub fn new(role: Role, text: impl Into<String>) -> Message {
        Message { role, content: Content::Text(text.into()), extra: Map::new() }
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
}

/// What a message says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Content {
    /// Plain text.
    Text(String),
    /// Texts and images in order, as OpenAI writes them: `{"type":"text","text":".."}`.
    Parts(Vec<Map<String, Value>>),
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
            Content::Parts(parts) => parts.iter().filter_map(|p| p.get("text")?.as_str()).collect(),
            Content::Nothing(()) => String::new(),
        }
    }
}

/// A text to go on with.
#[derive(Debug, Clone, Default)]
pub struct CompleteRequest {
    /// Which model; empty means the default one.
    pub model: String,
    /// The text so far, sent to the model as it is, without a chat template.
    pub prompt: String,
    /// How to choose tokens.
    pub sampling: Sampling,
    /// How many alternatives; `None` is one.
    pub n: Option<u32>,
    /// Every other field, as it came: `suffix`, `echo`, `logprobs`, ..
    pub extra: Map<String, Value>,
}

impl CompleteRequest {
    /// Goes on with this text.
    pub fn new(prompt: impl Into<String>) -> CompleteRequest {
        CompleteRequest { prompt: prompt.into(), ..CompleteRequest::default() }
    }
}

impl From<&str> for CompleteRequest {
    fn from(prompt: &str) -> Self {
        CompleteRequest::new(prompt)
    }
}

/// Texts to turn into vectors.
#[derive(Debug, Clone, Default)]
pub struct EmbedRequest {
    /// Which model; empty means the default one.
    pub model: String,
    /// The texts; one vector each, in order.
    pub input: Vec<String>,
    /// How long the vectors shall be, for models that can shorten them.
    pub dimensions: Option<u32>,
    /// Vectors as base64 of little-endian f32 instead of JSON numbers, as OpenAI's own clients ask for.
    pub base64: bool,
    /// Every other field, as it came.
    pub extra: Map<String, Value>,
}

impl EmbedRequest {
    /// These texts.
    pub fn new<T: Into<String>>(input: impl IntoIterator<Item = T>) -> EmbedRequest {
        EmbedRequest { input: input.into_iter().map(Into::into).collect(), ..EmbedRequest::default() }
    }
}

impl<T: Into<String>, const N: usize> From<[T; N]> for EmbedRequest {
    fn from(input: [T; N]) -> Self {
        EmbedRequest::new(input)
    }
}

impl From<&str> for EmbedRequest {
    fn from(input: &str) -> Self {
        EmbedRequest::new([input])
    }
}

impl From<Vec<String>> for EmbedRequest {
    fn from(input: Vec<String>) -> Self {
        EmbedRequest::new(input)
    }
}

/// A prompt whose tokens are wanted.
#[derive(Debug, Clone)]
pub struct TokenizeRequest {
    /// Which model; empty means the default one.
    pub model: String,
    /// What to count.
    pub prompt: Prompt,
    /// Whether the tokenizer's own first and last tokens count; for a text, not a conversation.
    pub add_special_tokens: bool,
    /// Every other field, as it came: `tools`, `chat_template_kwargs`, ..
    pub extra: Map<String, Value>,
}

/// A prompt as text, or as a conversation that the chat template makes text of.
#[derive(Debug, Clone)]
pub enum Prompt {
    /// As it is.
    Text(String),
    /// Through the model's chat template.
    Chat(Vec<Message>),
}

impl From<&str> for Prompt {
    fn from(text: &str) -> Self {
        Prompt::Text(text.into())
    }
}

impl From<String> for Prompt {
    fn from(text: String) -> Self {
        Prompt::Text(text)
    }
}

impl From<Vec<Message>> for Prompt {
    fn from(messages: Vec<Message>) -> Self {
        Prompt::Chat(messages)
    }
}

/// Token ids to turn into text.
#[derive(Debug, Clone, Default)]
pub struct DetokenizeRequest {
    /// Which model; empty means the default one.
    pub model: String,
    /// The ids.
    pub tokens: Vec<u32>,
}
