//! The questions as nouns: what a call means once somebody has understood it, whatever dialect it came in.
use serde_json::{Map, Value};

use super::{ChatRequest, Content, Image, Message, Sampling};

/// A question understood.
///
/// ```
/// use llm_core::{EmbedRequest, Operation, Request};
/// let request = Request::from(EmbedRequest::new(["cats"]).model("e5"));
/// assert_eq!((request.operation(), request.model()), (Operation::Embed, "e5"));
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Request {
    /// Answer a conversation.
    Chat(ChatRequest),
    /// Go on with a text.
    Complete(CompleteRequest),
    /// Turn texts into vectors.
    Embed(EmbedRequest),
    /// Order documents by how well they answer a query.
    Rerank(RerankRequest),
    /// Tell how alike texts are.
    Score(ScoreRequest),
    /// Count a prompt's tokens.
    Tokenize(TokenizeRequest),
    /// Turn tokens back into text.
    Detokenize(DetokenizeRequest),
    /// List the models.
    Models,
}

/// A text to go on with.
///
/// ```
/// use llm_core::{CompleteRequest, Sampling};
/// let sampling = Sampling { max_tokens: Some(20), ..Sampling::default() };
/// let request = CompleteRequest { sampling, ..CompleteRequest::new("Once upon a time") };
/// assert_eq!(request.prompt, "Once upon a time");
/// ```
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

/// Texts, or an image, to turn into vectors.
///
/// ```
/// use llm_core::{EmbedRequest, Image};
/// let request = EmbedRequest::new(["one", "two"]).model("e5").dimensions(256);
/// assert_eq!(request.expected(), 2);
/// assert_eq!(EmbedRequest::image(Image::url("data:image/png;base64,iVBORw0KGgo=")).messages.len(), 1);
/// ```
#[derive(Debug, Clone, Default)]
pub struct EmbedRequest {
    /// Which model; empty means the default one.
    pub model: String,
    /// The texts; one vector each, in order.
    pub input: Vec<String>,
    /// In place of `input`: one prompt of texts and images, for one vector, as vLLM takes it.
    pub messages: Vec<Message>,
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

    /// One image, for one vector. The same model's vectors of texts lie in the same space.
    pub fn image(image: Image) -> EmbedRequest {
        let message = Message { content: Content::Parts(vec![image.into()]), ..Message::user("") };
        EmbedRequest { messages: vec![message], ..EmbedRequest::default() }
    }

    /// Asks this model.
    pub fn model(mut self, model: impl Into<String>) -> Self {
        self.model = model.into();
        self
    }

    /// Vectors of this length, of models that can shorten them.
    pub fn dimensions(mut self, dimensions: u32) -> Self {
        self.dimensions = Some(dimensions);
        self
    }

    /// How many vectors will come.
    pub fn expected(&self) -> usize {
        if self.messages.is_empty() { self.input.len() } else { 1 }
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

/// Documents to order by how well they answer a query.
///
/// ```
/// let request = llm_core::RerankRequest::new("What do cats eat?", ["Cats eat mice.", "Rust is a language."]).top_n(1);
/// assert_eq!(request.model("reranker").documents.len(), 2);
/// ```
#[derive(Debug, Clone, Default)]
pub struct RerankRequest {
    /// Which model; empty means the default one.
    pub model: String,
    /// What is looked for.
    pub query: String,
    /// Where it is looked for: texts, or objects as the host takes them (`{"text": ".."}`).
    pub documents: Vec<Value>,
    /// Only so many of the best; `None` is all.
    pub top_n: Option<u32>,
    /// Every other field, as it came: `return_documents`, `instruction`, ..
    pub extra: Map<String, Value>,
}

impl RerankRequest {
    /// Orders these texts.
    pub fn new<T: Into<String>>(query: impl Into<String>, documents: impl IntoIterator<Item = T>) -> RerankRequest {
        let documents = documents.into_iter().map(|text| Value::from(text.into())).collect();
        RerankRequest { query: query.into(), documents, ..RerankRequest::default() }
    }

    /// Asks this model.
    pub fn model(mut self, model: impl Into<String>) -> Self {
        self.model = model.into();
        self
    }

    /// Only so many of the best.
    pub fn top_n(mut self, top_n: u32) -> Self {
        self.top_n = Some(top_n);
        self
    }
}

/// Pairs of texts whose likeness is wanted: one text against each of the others, or two lists pair by pair.
///
/// ```
/// let request = llm_core::ScoreRequest::new(["What do cats eat?"], ["Cats eat mice.", "Rust is a language."]);
/// assert_eq!(request.model("reranker").documents.len(), 2);
/// ```
#[derive(Debug, Clone, Default)]
pub struct ScoreRequest {
    /// Which model; empty means the default one.
    pub model: String,
    /// One for all documents, or one for each.
    pub queries: Vec<Value>,
    /// What the queries are held against; one score each, in order.
    pub documents: Vec<Value>,
    /// Every other field, as it came.
    pub extra: Map<String, Value>,
}

impl ScoreRequest {
    /// Scores these texts.
    pub fn new<Q: Into<String>, D: Into<String>>(
        queries: impl IntoIterator<Item = Q>,
        documents: impl IntoIterator<Item = D>,
    ) -> ScoreRequest {
        let queries = queries.into_iter().map(|text| Value::from(text.into())).collect();
        let documents = documents.into_iter().map(|text| Value::from(text.into())).collect();
        ScoreRequest { queries, documents, ..ScoreRequest::default() }
    }

    /// Asks this model.
    pub fn model(mut self, model: impl Into<String>) -> Self {
        self.model = model.into();
        self
    }
}

/// A prompt whose tokens are wanted.
///
/// ```
/// use llm_core::{Message, Prompt, Request, TokenizeRequest};
/// let prompt = Prompt::from(vec![Message::user("hi")]);
/// let request = TokenizeRequest { model: "coder".into(), prompt, add_special_tokens: true, extra: Default::default() };
/// assert_eq!(Request::from(request).model(), "coder");
/// ```
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
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> llm_core::Result<()> {
/// # let llm = llm_core::Llm::of(llm_core::provider::fake::Fake::says(""))?;
/// use llm_core::{Message, Prompt};
/// assert_eq!(llm.count_tokens(Prompt::Text("one two".into())).await?.count, 2);
/// assert_eq!(llm.count_tokens(Prompt::Chat(vec![Message::user("hi")])).await?.count, 1);
/// # Ok(())
/// # }
/// ```
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
///
/// ```
/// use llm_core::{DetokenizeRequest, Operation, Request};
/// let request = DetokenizeRequest { model: "coder".into(), tokens: vec![9707, 0], ..Default::default() };
/// assert_eq!(Request::from(request).operation(), Operation::Detokenize);
/// ```
#[derive(Debug, Clone, Default)]
pub struct DetokenizeRequest {
    /// Which model; empty means the default one.
    pub model: String,
    /// The ids.
    pub tokens: Vec<u32>,
    /// Every other field, as it came.
    pub extra: Map<String, Value>,
}
