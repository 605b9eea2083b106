//! What programs hold: the typed verbs over whatever is configured.
mod embed;
#[cfg(feature = "schemars")]
mod extract;
mod rank;
mod stream;
#[cfg(test)]
mod tests;
mod tools;
mod truncate;
mod vision;

pub use embed::Batches;
pub use stream::ChatStream;
pub use tools::{Tool, ToolRun};

use std::sync::Arc;
use std::time::Instant;

use crate::call::*;
use crate::error::{Error, Kind, Result};
use crate::gateway::env::Lookup;
use crate::gateway::{Config, Gateway, ModelStatus};
use crate::provider;

/// Private models, whoever runs them. Cheap to clone; every clone shares queues, connections and health.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> llm_core::Result<()> {
/// use llm_core::{Config, Llm};
/// // In place of this, `llm_core::from_env()` reads AI_PROVIDER, VLLM_BASE_URL, ..
/// let llm = Llm::new(&Config::from_toml("[models.m]\nprovider = 'fake'")?)?;
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
    ///
    /// ```
    /// use llm_core::{Config, Gateway, Llm};
    /// let config = Config::from_toml("[models.hello]\nprovider = \"fake\"")?;
    /// let llm = Llm::over(Gateway::new(&config)?);
    /// assert_eq!(llm.gateway().models()[0].id, "hello");
    /// # Ok::<(), llm_core::Error>(())
    /// ```
    pub fn over(gateway: Gateway) -> Llm {
        Llm { gateway: Arc::new(gateway) }
    }

    /// One provider, under every name, with queue, retry and timeouts around it as they are by default.
    ///
    /// ```
    /// use llm_core::{BoxFuture, Call, Llm, Provider, Reply, Result};
    /// struct Parrot;
    /// impl Provider for Parrot {
    ///     fn call<'a>(&'a self, call: &'a Call) -> BoxFuture<'a, Result<Reply>> {
    ///         Box::pin(async move { Ok(Reply::says(call.chat()?.last_text())) })
    ///     }
    /// }
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<()> {
    /// let llm = Llm::of(Parrot)?;
    /// assert_eq!(llm.chat("hello").await?.text, "hello");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `Config`, if it can be asked nothing.
    pub fn of(provider: impl Provider + 'static) -> Result<Llm> {
        Ok(Llm::over(Gateway::of(Arc::new(provider))?))
    }

    /// The models that the environment names, with further kinds of provider such as the engine's.
    ///
    /// ```
    /// let variables = |name: &str| (name == "AI_PROVIDER").then(|| "fake".to_owned());
    /// let llm = llm_core::Llm::from_env(&variables, &[])?;
    /// assert_eq!(llm.models()[0].status, "unknown"); // nobody has asked yet
    /// # Ok::<(), llm_core::Error>(())
    /// ```
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
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> llm_core::Result<()> {
    /// # let llm = llm_core::Llm::of(llm_core::provider::fake::Fake::says("Because air scatters it."))?;
    /// use llm_core::ChatRequest;
    /// let answer = llm.chat(ChatRequest::new("Why is the sky blue?").max_tokens(2)).await?;
    /// println!("{answer} ({} tokens)", answer.usage.unwrap_or_default().completion_tokens);
    /// # assert_eq!(answer.text, "Because air ");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// What kept it from answering, after retries and fallbacks.
    pub async fn chat(&self, request: impl Into<ChatRequest>) -> Result<ChatReply> {
        self.answer(request.into()).await
    }

    /// Answers a conversation piece by piece. Dropping the stream stops the model.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> llm_core::Result<()> {
    /// # let llm = llm_core::Llm::of(llm_core::provider::fake::Fake::says("Once upon a time"))?;
    /// let mut story = llm.stream("Tell me a story.").await?;
    /// while let Some(text) = story.next_text().await? {
    ///     print!("{text}");
    /// }
    /// assert_eq!(story.so_far().text, "Once upon a time");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// What kept it from beginning.
    pub async fn stream(&self, request: impl Into<ChatRequest>) -> Result<ChatStream> {
        let (call, since) = (Call::new(request.into(), Delivery::Stream), Instant::now());
        Ok(ChatStream::begin(self.gateway.call(&call).await?, call.context, since))
    }

    /// Goes on with a text, without a chat template.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> llm_core::Result<()> {
    /// # let llm = llm_core::Llm::of(llm_core::provider::fake::Fake::says("a time"))?;
    /// let answer = llm.complete("Once upon").await?;
    /// assert_eq!(answer.text, "a time");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// What kept it from answering.
    pub async fn complete(&self, request: impl Into<CompleteRequest>) -> Result<ChatReply> {
        self.answer(request.into()).await
    }

    async fn answer(&self, request: impl Into<Request>) -> Result<ChatReply> {
        let (call, since) = (Call::new(request, Delivery::Whole), Instant::now());
        let reply = self.gateway.call(&call).await?;
        let first = since.elapsed();
        let mut answer = reply.chat().await?;
        let progress = call.context.progress.borrow();
        answer.timings = Timings { queued: progress.queued, first, total: since.elapsed() };
        answer.warnings = progress.warnings.clone();
        Ok(answer)
    }

    /// A question whose answer is one frame.
    async fn one<T>(&self, request: impl Into<Request>, pick: impl FnOnce(Frame) -> Option<T>) -> Result<T> {
        let call = Call::new(request, Delivery::Whole);
        let reply = self.gateway.call(&call).await?;
        reply.single(|frame| pick(warned(frame, &call.context))).await
    }

    /// Counts a prompt's tokens as the default model would, chat template included.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> llm_core::Result<()> {
    /// # let llm = llm_core::Llm::of(llm_core::provider::fake::Fake::says(""))?;
    /// let tokens = llm.count_tokens("Why is the sky blue?").await?;
    /// println!("{} of {:?}", tokens.count, tokens.max_model_len);
    /// # assert_eq!(tokens.count, 5);
    /// # Ok(())
    /// # }
    /// ```
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
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> llm_core::Result<()> {
    /// # let llm = llm_core::Llm::of(llm_core::provider::fake::Fake::says(""))?;
    /// use llm_core::{Prompt, TokenizeRequest};
    /// let prompt = Prompt::Text("Why is the sky blue?".into());
    /// let request = TokenizeRequest { model: "coder".into(), prompt, add_special_tokens: true, extra: Default::default() };
    /// assert_eq!(llm.tokenize(request).await?.count, 5);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Llm::count_tokens`].
    pub async fn tokenize(&self, request: TokenizeRequest) -> Result<Tokens> {
        self.one(request, |f| if let Frame::Tokens(t) = f { Some(t) } else { None }).await
    }

    /// Turns token ids back into text, of the default model.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> llm_core::Result<()> {
    /// # let llm = llm_core::Llm::of(llm_core::provider::fake::Fake::says(""))?;
    /// let text = llm.detokenize([1, 2]).await?;
    /// # assert_eq!(text, "1 2 ");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Llm::count_tokens`].
    pub async fn detokenize(&self, tokens: impl Into<Vec<u32>>) -> Result<String> {
        let request = DetokenizeRequest { tokens: tokens.into(), ..DetokenizeRequest::default() };
        self.one(request, |f| if let Frame::Text(text) = f { Some(text) } else { None }).await
    }

    /// Every model with its status as far as known; asks nobody.
    pub fn models(&self) -> Vec<ModelStatus> {
        self.gateway.models()
    }

    /// Asks every deployment how it is, which costs no token; the errors of those that are not well, by their names.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> llm_core::Result<()> {
    /// # let llm = llm_core::Llm::of(llm_core::provider::fake::Fake::says(""))?;
    /// for (deployment, health) in llm.health().await {
    ///     println!("{deployment}: {}", if let Err(error) = health { error.to_string() } else { "well".into() });
    /// }
    /// # Ok(())
    /// # }
    /// ```
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

/// What the caller should know, where the answer has a place for it.
fn warned(mut frame: Frame, context: &Context) -> Frame {
    let told = || context.progress.borrow().warnings.clone();
    match &mut frame {
        Frame::Vectors(answer) => answer.warnings = told(),
        Frame::Ranking(answer) => answer.warnings = told(),
        Frame::Scores(answer) => answer.warnings = told(),
        _ => {}
    }
    frame
}
