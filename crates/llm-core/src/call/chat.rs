//! The question that is asked most: a conversation to answer, and how to choose its tokens.
use serde_json::{Map, Value, json};

use super::{Image, Message};

/// How to choose the next token, and when to stop. Everything left out is the model's or the server's default.
///
/// ```
/// use llm_core::{ChatRequest, Sampling};
/// let sampling = Sampling { min_p: Some(0.05), repetition_penalty: Some(1.1), ..Sampling::default() };
/// let request = ChatRequest { sampling, ..ChatRequest::new("Tell me a story.") };
/// assert_eq!(request.sampling.min_p, Some(0.05));
/// ```
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
///
/// // The same answer each time, by a model of one's choice, in a conversation that goes on.
/// # use llm_core::Message;
/// let request = request.message(Message::assistant("Air scatters it.")).message(Message::user("And at dusk?"));
/// let request = request.model("coder").seed(7).top_p(0.9).stop("\n").logprobs(3);
/// assert_eq!((request.last_text().as_str(), &request.extra["top_logprobs"]), ("And at dusk?", &3.into()));
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
    /// Tools it may call, as OpenAI writes them; see [`Tool`](crate::Tool).
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

    /// Shows an image beside what the last message says; a vision model is needed.
    ///
    /// ```
    /// use llm_core::{ChatRequest, Image};
    /// let request = ChatRequest::new("What is this?").image(Image::url("data:image/png;base64,iVBORw0KGgo="));
    /// assert_eq!(request.messages[0].content.parts().count(), 2);
    /// ```
    pub fn image(mut self, image: Image) -> Self {
        if self.messages.is_empty() {
            self.messages.push(Message::user(""));
        }
        if let Some(last) = self.messages.last_mut() {
            last.content.push(image.into());
        }
        self
    }

    /// Offers a tool.
    ///
    /// ```
    /// use serde_json::json;
    /// let weather = json!({"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}});
    /// let request = llm_core::ChatRequest::new("Is it sunny?").tool(weather).extra("tool_choice", "required");
    /// assert_eq!(request.tools.len(), 1);
    /// ```
    pub fn tool(mut self, definition: impl Into<Value>) -> Self {
        self.tools.push(definition.into());
        self
    }

    /// The answer must be JSON of this schema. Servers enforce it while they write, those that can.
    ///
    /// ```
    /// use serde_json::json;
    /// let schema = json!({"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]});
    /// let request = llm_core::ChatRequest::new("Where is the Eiffel tower?").schema("place", schema);
    /// assert_eq!(request.extra["response_format"]["type"], "json_schema");
    /// ```
    pub fn schema(self, name: &str, schema: Value) -> Self {
        let format = json!({"type": "json_schema", "json_schema": {"name": name, "schema": schema, "strict": true}});
        self.extra("response_format", format)
    }

    /// The log probability of every token, and of as many alternatives (0 to 20) in its place.
    pub fn logprobs(self, alternatives: u32) -> Self {
        self.extra("logprobs", true).extra("top_logprobs", alternatives)
    }

    /// Only the likeliest tokens that together have this probability, 0 to 1.
    pub fn top_p(mut self, top_p: f32) -> Self {
        self.sampling.top_p = Some(top_p);
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
