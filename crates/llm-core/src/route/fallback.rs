//! Asks other models, in the order that the configuration declares, where one cannot answer; and says so.
use std::sync::{Arc, OnceLock};

use super::deployment::Deployment;
use crate::call::*;
use crate::error::{Error, Result};

/// A model's stack and its name.
///
/// ```
/// use std::sync::Arc;
/// use llm_core::{Operations, provider::fake::Fake, route::{Fallback, fallback::Named}};
/// let general = Named { may: Operations::CHAT, ..Named::new("general", Arc::new(Fake::says("hi"))) };
/// Fallback::new(Arc::new(Fake::says("").after_failures(1)), vec![]).steps_in(vec![general]);
/// ```
pub struct Named {
    /// Its name.
    pub name: Arc<str>,
    /// What it may be asked.
    pub may: Operations,
    /// Its stack, without those who step in for it.
    pub stack: Arc<dyn Provider>,
}

impl Named {
    /// One that may be asked whatever it can.
    pub fn new(name: impl Into<Arc<str>>, stack: Arc<dyn Provider>) -> Named {
        Named { name: name.into(), may: stack.serves(), stack }
    }
}

/// A model's stack and those that step in for it.
pub struct Fallback {
    first: Arc<dyn Provider>,
    deployments: Vec<Arc<Deployment>>, // of the first
    others: OnceLock<Vec<Named>>,      // known once all models are built
}

impl Fallback {
    /// A stack over these deployments, with nobody to step in yet.
    pub fn new(first: Arc<dyn Provider>, deployments: Vec<Arc<Deployment>>) -> Fallback {
        Fallback { first, deployments, others: OnceLock::new() }
    }

    /// Who steps in, best first; told once.
    pub fn steps_in(&self, others: Vec<Named>) {
        let _ = self.others.set(others);
    }

    /// The stack alone: those who step in for others have nobody to step in for them, so that no circle can arise.
    pub fn alone(&self) -> Arc<dyn Provider> {
        self.first.clone()
    }
}

impl Fallback {
    fn is_away(&self) -> bool {
        !self.deployments.is_empty() && self.deployments.iter().all(|deployment| deployment.is_resting())
    }

    /// The answer of the first that can give one, or the last that was tried; `None` if nobody can be asked this.
    async fn instead(&self, call: &Call, others: &[Named], why: &str) -> Option<Result<Reply>> {
        let mut answer = None;
        let can = |other: &&Named| other.may.contains(call.operation) && other.stack.serves().contains(call.operation);
        for Named { name, stack, .. } in others.iter().filter(can) {
            tracing::warn!(call = call.context.id, instead = %name, why, "falling back");
            let reply = stack.call(&call.for_model(name)).await;
            if reply.is_ok() {
                call.context.tell(|p| {
                    // A call that names no model means the default one, which the router has noted.
                    let asked = p.model.clone().filter(|_| call.model.is_empty()).unwrap_or(call.model.clone());
                    p.warnings.push(format!("{name} answered instead of {asked}"));
                });
            }
            let goes_on = reply.as_ref().is_err_and(|error: &Error| error.kind().is_failover());
            answer = Some(reply);
            if !goes_on {
                break;
            }
        }
        answer
    }
}

impl Provider for Fallback {
    fn call<'a>(&'a self, call: &'a Call) -> BoxFuture<'a, Result<Reply>> {
        let others = self.others.get().map_or(&[][..], Vec::as_slice);
        if others.is_empty() {
            return self.first.call(call);
        }
        Box::pin(async move {
            if self.is_away() {
                // Who rests would only be waited for. If nobody else can answer either, it is asked after all.
                return match self.instead(call, others, "it rests").await {
                    Some(Ok(reply)) => Ok(reply),
                    _ => self.first.call(call).await,
                };
            }
            match self.first.call(call).await {
                Err(error) if error.kind().is_failover() => {
                    self.instead(call, others, error.kind().name()).await.unwrap_or(Err(error))
                }
                answer => answer,
            }
        })
    }

    fn inner(&self) -> Option<&dyn Provider> {
        Some(&*self.first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::fake::Fake;
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    #[tokio::test]
    async fn another_model_steps_in_and_the_caller_is_told() {
        let fallback = Fallback::new(Arc::new(Fake::says("never").after_failures(9)), Vec::new());
        fallback.steps_in(vec![
            Named::new("ill", Arc::new(Fake::says("no").after_failures(1))),
            Named { may: Operation::Embed.into(), ..Named::new("not asked", Arc::new(Fake::says("hello"))) },
            Named::new("well", Arc::new(Fake::says("hi"))),
        ]);
        let call = Call::new(ChatRequest::new("?").model("big"), Delivery::Whole);
        fallback.call(&call).await.unwrap();
        assert_eq!(call.context.progress.borrow().warnings, ["well answered instead of big"]);
    }

    #[tokio::test]
    async fn nobody_steps_in_for_the_callers_mistake() {
        let other = Arc::new(Fake::says("hi"));
        let fallback = Fallback::new(Arc::new(Fake::says("?")), Vec::new());
        fallback.steps_in(vec![Named::new("other", other.clone())]);
        let wrong = bytes::Bytes::from_static(br#"{"messages":[]}"#);
        let call = Call::read(Operation::Chat, crate::dialect::openai(), wrong).unwrap();
        assert!(fallback.call(&call).await.is_err());
        assert_eq!(other.calls(), 0);
    }

    fn embedding() -> Call {
        Call::new(EmbedRequest::new(["a text"]), Delivery::Whole)
    }

    fn seeing() -> Call {
        let picture = serde_json::json!({"model": "big", "messages": [{"role": "user", "content": [
            {"type": "text", "text": "what is it?"}, {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}]}]});
        let bytes = serde_json::to_vec(&picture).unwrap().into();
        Call::read(Operation::Chat, crate::dialect::openai(), bytes).unwrap()
    }

    #[tokio::test]
    async fn an_endpoint_for_texts_vectors_or_images_that_is_away_is_replaced_as_declared_and_not_otherwise() {
        for call in [Call::new(ChatRequest::new("?"), Delivery::Stream), embedding(), seeing()] {
            let away = || Arc::new(Fake::says("never").after_failures(9));
            let alone = Fallback::new(away(), Vec::new());
            assert_eq!(alone.call(&call).await.unwrap_err().kind(), crate::Kind::Upstream, "{call:?}");
            let (chats, other) = (Arc::new(Chats::default()), Arc::new(Fake::says("hi")));
            let declared = Fallback::new(away(), Vec::new());
            declared.steps_in(vec![Named::new("chats", chats.clone()), Named::new("all", other.clone())]);
            declared.call(&call).await.unwrap();
            // One that only chats is not asked for vectors.
            let wants_vectors = call.operation == Operation::Embed;
            assert_eq!(
                (chats.0.load(Relaxed), other.calls()),
                (usize::from(!wants_vectors), usize::from(wants_vectors))
            );
        }
    }

    /// As small as a provider can be.
    #[derive(Default)]
    struct Chats(AtomicUsize);
    impl Provider for Chats {
        fn call<'a>(&'a self, call: &'a Call) -> BoxFuture<'a, Result<Reply>> {
            self.0.fetch_add(1, Relaxed);
            Box::pin(async move { Ok(Reply::says(call.chat()?.last_text())) })
        }
    }

    #[tokio::test]
    async fn who_rests_is_not_waited_for_while_another_can_answer() {
        let ill = Arc::new(Fake::says("well again"));
        let deployment = Arc::new(Deployment::new("ill".into(), None, ill.clone()));
        let gone = Error::new(crate::Kind::Unavailable, "gone");
        (0..3).for_each(|_| deployment.health.failed(&gone));
        let fallback = Fallback::new(ill.clone(), vec![deployment]);
        let other = Arc::new(Fake::says("hi").after_failures(0));
        fallback.steps_in(vec![Named::new("other", other.clone())]);
        fallback.call(&embedding()).await.unwrap();
        assert_eq!((ill.calls(), other.calls()), (0, 1));

        let ill = Arc::new(Fake::says("well again"));
        let deployment = Arc::new(Deployment::new("ill".into(), None, ill.clone()));
        (0..3).for_each(|_| deployment.health.failed(&gone));
        let fallback = Fallback::new(ill.clone(), vec![deployment]);
        fallback.steps_in(vec![Named::new("other", Arc::new(Fake::says("no").after_failures(9)))]);
        fallback.call(&embedding()).await.unwrap();
        assert_eq!(ill.calls(), 1, "nobody else can, so it is asked after all");
    }
}
