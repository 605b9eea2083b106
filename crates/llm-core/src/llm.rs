//! What programs hold: the typed verbs over whatever is configured.
use std::sync::Arc;

use futures_util::StreamExt;

use crate::call::*;
use crate::error::{Error, Kind, Result};
use crate::gateway::env::Lookup;
use crate::gateway::{Config, Gateway, ModelStatus};
use crate::provider;

/// Private models, whoever runs them. Cheap to clone; every clone shares queues, connections and health.
///
/// ```
/// # async fn f() -> llm_core::Result<()> {
/// let llm = llm_core::from_env()?; // AI_PROVIDER, VLLM_BASE_URL, ..
/// println!("{}", llm.chat("Why is the sky blue?").await?);
///
/// let mut story = llm.stream("Tell me a story.").await?;
/// while let Some(text) = story.next_text().await? {
///     print!("{text}");
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Llm {
    gateway: Arc<Gateway>,
}

impl Llm {
    /// The models of a configuration.
    ///
    /// # Errors
    /// `Config`, with the place of what is wrong.
    pub fn new(config: &Config) -> Result<Llm> {
        Ok(Llm::over(Gateway::new(config)?))
    }

    /// The models of a house that was built with further kinds of provider.
    pub fn over(gateway: Gateway) -> Llm {
        Llm { gateway: Arc::new(gateway) }
    }

    /// The models that the environment names, with further kinds of provider such as the engine's.
    ///
    /// # Errors
    /// `Config`, naming the variable.
    pub fn from_env(lookup: Lookup<'_>, kinds: &[provider::Kind]) -> Result<Llm> {
        Ok(Llm::over(Gateway::with(&Config::from_env(lookup)?, kinds, Arc::new(()))?))
    }

    /// The house below.
    pub fn gateway(&self) -> &Arc<Gateway> {
        &self.gateway
    }

    /// Answers a conversation.
    ///
    /// # Errors
    /// What kept it from answering, after retries and fallbacks.
    pub async fn chat(&self, request: impl Into<ChatRequest>) -> Result<ChatReply> {
        let call = Call::new(request.into(), Delivery::Whole);
        let mut answer = self.gateway.call(&call).await?.chat().await?;
        answer.warnings = call.context.progress.borrow().warnings.clone();
        Ok(answer)
    }

    /// Answers a conversation piece by piece. Dropping the stream stops the model.
    ///
    /// # Errors
    /// What kept it from beginning.
    pub async fn stream(&self, request: impl Into<ChatRequest>) -> Result<ChatStream> {
        let call = Call::new(request.into(), Delivery::Stream);
        let events = self.gateway.call(&call).await?.events();
        Ok(ChatStream { events, so_far: ChatReply::default(), context: call.context })
    }

    /// Goes on with a text, without a chat template.
    ///
    /// # Errors
    /// What kept it from answering.
    pub async fn complete(&self, request: impl Into<CompleteRequest>) -> Result<ChatReply> {
        self.gateway.call(&Call::new(request.into(), Delivery::Whole)).await?.chat().await
    }

    /// Turns texts into vectors: one each, in order.
    ///
    /// # Errors
    /// What kept it from answering; `Upstream` if the vectors are not as many as the texts.
    pub async fn embed(&self, request: impl Into<EmbedRequest>) -> Result<Embeddings> {
        let request = request.into();
        let asked = request.input.len();
        let reply = self.gateway.call(&Call::new(request, Delivery::Whole)).await?;
        let vectors = reply.single(|f| if let Frame::Vectors(v) = f { Some(v) } else { None }).await?;
        match vectors.vectors.len() {
            got if got == asked => Ok(vectors),
            got => Err(Error::new(Kind::Upstream, format!("{asked} texts were sent and {got} vectors came back"))),
        }
    }

    /// Counts a prompt's tokens as the default model would, chat template included.
    ///
    /// # Errors
    /// `Unsupported` if the provider has no tokenizer to ask.
    pub async fn count_tokens(&self, prompt: impl Into<Prompt>) -> Result<Tokens> {
        let prompt = prompt.into();
        self.tokenize(TokenizeRequest {
            model: String::new(),
            prompt,
            add_special_tokens: true,
            extra: Default::default(),
        })
        .await
    }

    /// Counts a prompt's tokens, of a model by name.
    ///
    /// # Errors
    /// As [`Llm::count_tokens`].
    pub async fn tokenize(&self, request: TokenizeRequest) -> Result<Tokens> {
        let reply = self.gateway.call(&Call::new(request, Delivery::Whole)).await?;
        reply.single(|f| if let Frame::Tokens(t) = f { Some(t) } else { None }).await
    }

    /// Every model with its status as far as known; asks nobody.
    pub fn models(&self) -> Vec<ModelStatus> {
        self.gateway.models()
    }

    /// Asks every deployment how it is, which costs no token; the errors of those that are not well, by their names.
    pub async fn health(&self) -> Vec<(String, Result<()>)> {
        let router = self.gateway.router();
        let deployments = router.models.iter().flat_map(|m| m.deployments.clone());
        let ask = deployments.map(|d| async move {
            let answer = match d.provider.life().map(Life::status) {
                Some(LifeStatus::Failed(why)) => Err(Error::new(Kind::Unavailable, why)),
                Some(_) => Ok(()),
                None => d.probe().await,
            };
            (d.name.clone(), answer)
        });
        futures_util::future::join_all(ask).await
    }
}

/// An answer as it is made.
pub struct ChatStream {
    events: Frames,
    so_far: ChatReply,
    context: Arc<Context>,
}

impl ChatStream {
    /// The next event; `None` at the end.
    ///
    /// # Errors
    /// What broke the answer off. Nothing follows.
    pub async fn next(&mut self) -> Result<Option<Event>> {
        while let Some(frame) = self.events.next().await.transpose()? {
            if let Frame::Event(event) = frame {
                self.so_far.add(event.clone());
                return Ok(Some(event));
            }
        }
        self.so_far.warnings = self.context.progress.borrow().warnings.clone();
        if self.so_far.finish_reason.is_none() { Err(truncated()) } else { Ok(None) }
    }

    /// The next words; `None` at the end.
    ///
    /// # Errors
    /// As [`ChatStream::next`].
    pub async fn next_text(&mut self) -> Result<Option<String>> {
        loop {
            match self.next().await? {
                Some(Event::Text(text)) => return Ok(Some(text)),
                Some(_) => {}
                None => return Ok(None),
            }
        }
    }

    /// All that has come so far, put together: the finish reason, the cost and the warnings at the end.
    pub fn so_far(&self) -> &ChatReply {
        &self.so_far
    }
}
