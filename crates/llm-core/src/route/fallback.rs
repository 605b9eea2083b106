//! Asks other models, in the order that the configuration declares, where one cannot answer; and says so.
use std::sync::{Arc, OnceLock};

use crate::call::*;
use crate::error::Result;

/// A model's stack and its name.
pub type Named = (Arc<str>, Arc<dyn Provider>);

/// A model's stack and those that step in for it.
pub struct Fallback {
    first: Arc<dyn Provider>,
    others: OnceLock<Vec<Named>>, // known once all models are built
}

impl Fallback {
    /// A stack with nobody to step in yet.
    pub fn new(first: Arc<dyn Provider>) -> Fallback {
        Fallback { first, others: OnceLock::new() }
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

impl Provider for Fallback {
    fn call<'a>(&'a self, call: &'a Call) -> BoxFuture<'a, Result<Reply>> {
        let others = self.others.get().map_or(&[][..], Vec::as_slice);
        if others.is_empty() {
            return self.first.call(call);
        }
        Box::pin(async move {
            let mut answer = self.first.call(call).await;
            for (name, other) in others.iter().filter(|(_, other)| other.serves().contains(call.operation)) {
                match &answer {
                    Err(error) if error.kind().is_failover() => {
                        tracing::warn!(call = call.context.id, instead = %name, kind = error.kind().name(), "falling back");
                        answer = other.call(&call.for_model(name)).await;
                        if answer.is_ok() {
                            call.context
                                .tell(|p| p.warnings.push(format!("{name} answered instead of {}", call.model)));
                        }
                    }
                    _ => break,
                }
            }
            answer
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

    #[tokio::test]
    async fn another_model_steps_in_and_the_caller_is_told() {
        let fallback = Fallback::new(Arc::new(Fake::says("never").after_failures(9)));
        fallback.steps_in(vec![
            ("ill".into(), Arc::new(Fake::says("no").after_failures(1))),
            ("well".into(), Arc::new(Fake::says("hi"))),
        ]);
        let call = Call::new(ChatRequest::new("?").model("big"), Delivery::Whole);
        fallback.call(&call).await.unwrap();
        assert_eq!(call.context.progress.borrow().warnings, ["well answered instead of big"]);
    }

    #[tokio::test]
    async fn nobody_steps_in_for_the_callers_mistake() {
        let other = Arc::new(Fake::says("hi"));
        let fallback = Fallback::new(Arc::new(Fake::says("?")));
        fallback.steps_in(vec![("other".into(), other.clone())]);
        let wrong = bytes::Bytes::from_static(br#"{"messages":[]}"#);
        let call = Call::read(Operation::Chat, crate::dialect::openai(), wrong).unwrap();
        assert!(fallback.call(&call).await.is_err());
        assert_eq!(other.calls(), 0);
    }
}
