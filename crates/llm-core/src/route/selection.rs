//! Chooses one of a model's deployments for each attempt: one that is well, was not tried yet, and has the least to do.
use std::sync::Arc;

use super::deployment::{Busy, Deployment};
use super::health::Status;
use crate::call::*;
use crate::error::{Error, Kind, Result};

/// A deployment in the stack: with its policies around it.
pub struct Candidate {
    /// The deployment.
    pub deployment: Arc<Deployment>,
    /// Its provider inside its policies.
    pub stack: Arc<dyn Provider>,
}

/// The deployments of one model.
pub struct Selection {
    candidates: Vec<Candidate>,
}

impl Selection {
    /// Chooses among these; there must be one at least.
    ///
    /// # Errors
    /// `Config` if there is none.
    pub fn new(candidates: Vec<Candidate>) -> Result<Selection> {
        if candidates.is_empty() {
            return Err(Error::config("a model needs at least one deployment").at("deployments"));
        }
        Ok(Selection { candidates })
    }

    fn choose(&self, call: &Call) -> Result<&Candidate> {
        let able = || self.candidates.iter().filter(|c| c.stack.serves().contains(call.operation));
        if let [only] = &self.candidates[..]
            && only.deployment.health.rest().is_none()
            && only.stack.serves().contains(call.operation)
        {
            return Ok(only);
        }
        let tried = call.context.progress.borrow().tried.clone();
        let awake = able().filter(|c| c.deployment.health.rest().is_none());
        let best = awake.min_by_key(|c| (tried.contains(&c.deployment.name), c.deployment.outstanding()));
        best.ok_or_else(|| self.nobody(call, able()))
    }

    fn nobody<'c>(&self, call: &Call, able: impl Iterator<Item = &'c Candidate>) -> Error {
        let Some(soonest) = able.min_by_key(|c| c.deployment.health.rest()) else {
            return Error::new(Kind::Unsupported, format!("this model cannot {}", call.operation));
        };
        let wait = soonest.deployment.health.rest().unwrap_or_default();
        let why = match soonest.deployment.status() {
            Status::Failing(why) => why,
            _ => "it failed several times".into(),
        };
        Error::new(Kind::Unavailable, why).retry_after(wait)
    }
}

impl Provider for Selection {
    fn call<'a>(&'a self, call: &'a Call) -> BoxFuture<'a, Result<Reply>> {
        Box::pin(async move {
            let chosen = self.choose(call)?;
            let busy = Busy::with(&chosen.deployment);
            let name = chosen.deployment.name_for(call).await?;
            let renamed = name.filter(|name| **name != *call.model).map(|name| call.for_model(&name));
            match chosen.stack.call(renamed.as_ref().unwrap_or(call)).await {
                Ok(reply) => Ok(reply.on_end(move |end| busy.ended(&end))),
                Err(error) => {
                    chosen.deployment.health.failed(&error);
                    call.context.tell(|p| p.tried.push(chosen.deployment.name.clone()));
                    Err(error)
                }
            }
        })
    }

    fn serves(&self) -> Operations {
        self.candidates.iter().fold(Operations::NONE, |all, c| all | c.stack.serves())
    }

    fn width(&self) -> Option<usize> {
        self.candidates.iter().map(|c| c.stack.width()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::fake::Fake;
    use futures_util::StreamExt;

    fn candidate(name: &str, fake: Fake) -> (Candidate, Arc<Fake>) {
        let fake = Arc::new(fake);
        let deployment = Arc::new(Deployment::new(name.into(), Some("m".into()), fake.clone()));
        (Candidate { deployment, stack: fake.clone() }, fake)
    }

    fn ask() -> Call {
        Call::new(ChatRequest::new("?"), Delivery::Stream)
    }

    #[tokio::test]
    async fn the_next_attempt_goes_elsewhere() {
        let (ill, _) = candidate("a", Fake::says("never").after_failures(9));
        let (well, fake) = candidate("b", Fake::says("hi"));
        let selection = Selection::new(vec![ill, well]).unwrap();
        let call = ask();
        assert!(selection.call(&call).await.is_err());
        selection.call(&call).await.unwrap();
        assert_eq!((fake.calls(), &call.context.progress.borrow().tried[..]), (1, &["a".to_owned()][..]));
    }

    #[tokio::test]
    async fn the_one_with_the_least_to_do_is_chosen() {
        let (a, first) = candidate("a", Fake::says("hi"));
        let (b, second) = candidate("b", Fake::says("hi"));
        let selection = Selection::new(vec![a, b]).unwrap();
        let running: Vec<_> =
            futures_util::future::join_all((0..10).map(|_| async { selection.call(&ask()).await.unwrap() })).await;
        assert_eq!((first.calls(), second.calls()), (5, 5));
        drop(running);
        assert!(selection.candidates.iter().all(|c| c.deployment.outstanding() == 0));
    }

    #[tokio::test]
    async fn one_that_rests_is_left_alone_and_its_reason_is_told() {
        let (ill, fake) = candidate("a", Fake::says("hi").after_failures(3));
        let selection = Selection::new(vec![ill]).unwrap();
        for _ in 0..5 {
            assert!(selection.call(&ask()).await.is_err());
        }
        assert_eq!(fake.calls(), 3);
        let error = selection.call(&ask()).await.unwrap_err();
        assert!(error.kind() == Kind::Unavailable && error.get_retry_after().is_some());
        assert_eq!(error.message(), "the fake fails as it was told to");
    }

    #[tokio::test]
    async fn a_finished_reply_makes_it_ready() {
        let (well, _) = candidate("a", Fake::says("hi"));
        let deployment = well.deployment.clone();
        let selection = Selection::new(vec![well]).unwrap();
        assert_eq!(deployment.status(), Status::Unknown);
        selection.call(&ask()).await.unwrap().events().collect::<Vec<_>>().await;
        assert_eq!(deployment.status(), Status::Ready);
    }
}
