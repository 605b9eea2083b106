//! Another provider for each capability, as one: for programs that hold several. A configuration says the same with a model each.
use std::sync::Arc;

use futures_util::future::try_join_all;

use super::hosts;
use crate::call::*;
use crate::error::{Error, Kind, Result};

/// Asks one provider for most things, and others for what they were given.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> llm_core::Result<()> {
/// use std::sync::Arc;
/// use llm_core::provider::{fake::Fake, hybrid::Hybrid};
/// use llm_core::{Llm, Operation};
/// let (talks, embeds) = (Arc::new(Fake::says("hello")), Arc::new(Fake::says("")));
/// let llm = Llm::of(Hybrid::new(talks.clone()).with(Operation::Embed, embeds.clone()))?;
/// assert_eq!(llm.chat("?").await?.text, "hello");
/// assert_eq!(llm.embed(["cats", "dogs"]).await?.vectors.len(), 2);
/// assert_eq!(embeds.calls(), 1);
/// # Ok(())
/// # }
/// ```
pub struct Hybrid {
    rest: Arc<dyn Provider>,
    given: Vec<(Operations, Arc<dyn Provider>)>,
}

impl Hybrid {
    /// Asks this provider for whatever it serves, as long as it is alone.
    pub fn new(provider: Arc<dyn Provider>) -> Hybrid {
        Hybrid { rest: provider, given: Vec::new() }
    }

    /// Asks this one for these things, so far as it serves them. Of two that were given the same, the later is asked.
    pub fn with(mut self, operations: impl Into<Operations>, provider: Arc<dyn Provider>) -> Hybrid {
        self.given.push((operations.into(), provider));
        self
    }

    fn able(&self, operation: Operation) -> Option<&dyn Provider> {
        let given = self.given.iter().rev().filter(|(operations, _)| operations.contains(operation));
        let able = |provider: &&Arc<dyn Provider>| provider.serves().contains(operation);
        given.map(|(_, provider)| provider).chain([&self.rest]).find(able).map(|provider| &**provider)
    }

    fn all(&self) -> impl Iterator<Item = &Arc<dyn Provider>> {
        std::iter::once(&self.rest).chain(self.given.iter().map(|(_, provider)| provider))
    }

    fn lives(&self) -> impl Iterator<Item = &dyn Life> {
        self.all().filter_map(|provider| provider.life())
    }
}

impl Provider for Hybrid {
    fn call<'a>(&'a self, call: &'a Call) -> BoxFuture<'a, Result<Reply>> {
        match self.able(call.operation) {
            Some(provider) => provider.call(call),
            None => Box::pin(std::future::ready(Err(unsupported(call.operation)))),
        }
    }

    fn serves(&self) -> Operations {
        let able = Operation::ALL.into_iter().filter(|operation| self.able(*operation).is_some());
        able.fold(Operations::NONE, |all, operation| all | operation.into())
    }

    /// The narrowest of them: one line stands before all, and lets through what each can take.
    fn width(&self) -> Option<usize> {
        self.all().filter_map(|provider| provider.width()).min()
    }

    fn waiting(&self) -> usize {
        self.all().map(|provider| provider.waiting()).sum()
    }

    fn is_free(&self) -> bool {
        self.all().all(|provider| provider.is_free())
    }

    fn life(&self) -> Option<&dyn Life> {
        self.lives().next().map(|_| self as &dyn Life)
    }
}

/// Those of its providers that have to be loaded live together.
impl Life for Hybrid {
    fn load(&self) -> BoxFuture<'_, Result<()>> {
        let all = try_join_all(self.lives().map(Life::load));
        Box::pin(async move { all.await.map(drop) })
    }

    fn unload(&self) -> BoxFuture<'_, Result<()>> {
        let all = try_join_all(self.lives().map(Life::unload));
        Box::pin(async move { all.await.map(drop) })
    }

    fn status(&self) -> LifeStatus {
        let ready = LifeStatus::Ready { max_model_len: u32::MAX };
        self.lives().map(Life::status).fold(ready, behind)
    }

    fn memory(&self) -> Option<u64> {
        self.lives().map(Life::memory).sum()
    }
}

/// Of two, how far the one is that is further from answering.
fn behind(one: LifeStatus, other: LifeStatus) -> LifeStatus {
    use LifeStatus::*;
    match (one, other) {
        (Failed(why), _) | (_, Failed(why)) => Failed(why),
        (Unloaded, _) | (_, Unloaded) => Unloaded,
        (Loading(one), Loading(other)) => Loading(one.min(other)),
        (Loading(share), _) | (_, Loading(share)) => Loading(share),
        (Ready { max_model_len: one }, Ready { max_model_len: other }) => Ready { max_model_len: one.min(other) },
    }
}

fn unsupported(operation: Operation) -> Error {
    let message = format!("none of these providers can {operation}; those that can: {}", hosts::able(operation));
    Error::new(Kind::Unsupported, message)
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::provider::fake::Fake;

    /// A fake that serves only this, as many at once, and may have to be loaded.
    struct Only {
        serves: Operations,
        width: Option<usize>,
        status: Option<Mutex<LifeStatus>>,
    }

    impl Only {
        fn of(serves: impl Into<Operations>) -> Only {
            Only { serves: serves.into(), width: None, status: None }
        }

        fn living(max_model_len: Option<u32>) -> Arc<Only> {
            let ready = |max_model_len| LifeStatus::Ready { max_model_len };
            let status = max_model_len.map_or(LifeStatus::Unloaded, ready);
            Arc::new(Only { status: Some(Mutex::new(status)), ..Only::of(Operation::Embed) })
        }
    }

    impl Provider for Only {
        fn call<'a>(&'a self, call: &'a Call) -> BoxFuture<'a, Result<Reply>> {
            Box::pin(async move { Ok(Reply::says(call.operation.name())) })
        }
        fn serves(&self) -> Operations {
            self.serves
        }
        fn width(&self) -> Option<usize> {
            self.width
        }
        fn life(&self) -> Option<&dyn Life> {
            self.status.as_ref().map(|_| self as &dyn Life)
        }
    }

    impl Life for Only {
        fn load(&self) -> BoxFuture<'_, Result<()>> {
            Box::pin(async {
                *self.status.as_ref().unwrap().lock().unwrap() = LifeStatus::Ready { max_model_len: 77 };
                Ok(())
            })
        }
        fn unload(&self) -> BoxFuture<'_, Result<()>> {
            Box::pin(async {
                *self.status.as_ref().unwrap().lock().unwrap() = LifeStatus::Unloaded;
                Ok(())
            })
        }
        fn status(&self) -> LifeStatus {
            self.status.as_ref().unwrap().lock().unwrap().clone()
        }
    }

    #[tokio::test]
    async fn each_is_asked_for_what_it_was_given_and_can() {
        let (talks, embeds) = (Arc::new(Fake::says("hi")), Arc::new(Fake::says("")));
        let blind = Arc::new(Only::of(Operations::CHAT));
        let hybrid = Hybrid::new(talks.clone()).with([Operation::Embed, Operation::Score], embeds.clone());
        // It was given what it cannot, so another goes on doing it.
        let hybrid = hybrid.with(Operation::Embed, blind);
        for request in [Request::from(ChatRequest::new("?")), EmbedRequest::new(["a"]).into()] {
            hybrid.call(&Call::new(request, Delivery::Whole)).await.unwrap();
        }
        assert_eq!((talks.calls(), embeds.calls()), (1, 1));
    }

    #[tokio::test]
    async fn what_nobody_was_given_is_refused_and_tells_who_can() {
        let embeds = Arc::new(Fake::says(""));
        let hybrid = Hybrid::new(Arc::new(Only::of(Operations::CHAT))).with(Operation::Embed, embeds);
        assert_eq!(hybrid.serves(), [Operation::Chat, Operation::Embed].into());
        let request = RerankRequest::new("q", ["d"]);
        let error = hybrid.call(&Call::new(request, Delivery::Whole)).await.err().unwrap();
        assert_eq!(error.kind(), Kind::Unsupported);
        assert!(error.message().starts_with("none of these providers can rerank; those that can: vllm, "), "{error}");
    }

    #[tokio::test]
    async fn those_that_must_be_loaded_are_loaded_together() {
        let hybrid = Hybrid::new(Only::living(Some(2048))).with(Operation::Embed, Only::living(None));
        assert!(Hybrid::new(Arc::new(Fake::says(""))).life().is_none());
        let life = hybrid.life().unwrap();
        assert_eq!(life.status(), LifeStatus::Unloaded);
        life.load().await.unwrap();
        assert_eq!((life.status(), life.memory()), (LifeStatus::Ready { max_model_len: 77 }, None));
        life.unload().await.unwrap();
        assert_eq!(life.status(), LifeStatus::Unloaded);
    }

    #[test]
    fn the_line_before_all_is_as_wide_as_the_narrowest() {
        let narrow = Only { width: Some(4), ..Only::of(Operations::CHAT) };
        let hybrid = Hybrid::new(Arc::new(narrow)).with(Operation::Embed, Arc::new(Fake::says("")));
        assert_eq!((hybrid.width(), hybrid.waiting(), hybrid.is_free()), (Some(4), 0, false));
    }

    #[test]
    fn the_one_that_is_furthest_from_answering_speaks_for_all() {
        let ready = || LifeStatus::Ready { max_model_len: 8 };
        assert_eq!(behind(LifeStatus::Loading(0.5), LifeStatus::Loading(0.2)), LifeStatus::Loading(0.2));
        assert_eq!(behind(ready(), LifeStatus::Loading(0.5)), LifeStatus::Loading(0.5));
        assert_eq!(behind(LifeStatus::Failed("no".into()), LifeStatus::Unloaded), LifeStatus::Failed("no".into()));
    }
}
