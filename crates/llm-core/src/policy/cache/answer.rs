//! Answers from what is kept, and keeps what others answer.
use std::sync::Arc;
use std::time::Duration;

use super::store::{Asked, Asking, Found, Kept, Key, Store, Waiting};
use crate::call::*;
use crate::error::{Error, Kind, Result};

/// Whoever reads its answer slowly holds nobody up for longer.
const LONGEST_WAIT: Duration = Duration::from_secs(120);

pub(super) struct Cache {
    pub(super) inner: Arc<dyn Provider>,
    pub(super) store: Store,
    pub(super) per_caller: bool,
}

impl Provider for Cache {
    fn call<'a>(&'a self, call: &'a Call) -> BoxFuture<'a, Result<Reply>> {
        if call.context.caching == Caching::Never || !has_one_answer(call) {
            return self.inner.call(call);
        }
        Box::pin(async move {
            let key = Key::of(call, self.per_caller)?;
            if call.context.caching == Caching::Renew {
                return self.asked(call, self.store.renew(key)).await;
            }
            loop {
                match self.store.find(&key) {
                    Found::Kept(kept) => return Ok(kept.given_to(call)),
                    Found::Nothing(asking) => return self.asked(call, asking).await,
                    Found::Asked(mut asked) => match answer(call, &mut asked).await? {
                        Some(Some(kept)) => return Ok(kept.given_to(call)),
                        Some(None) => return self.asked(call, self.store.renew(key)).await,
                        None => {} // whoever asked has left: the next one asks
                    },
                }
            }
        })
    }

    fn inner(&self) -> Option<&dyn Provider> {
        Some(&*self.inner)
    }
}

impl Cache {
    async fn asked(&self, call: &Call, asking: Asking) -> Result<Reply> {
        call.context.tell(|p| p.cached = Some(Cached::Miss));
        let told_before = call.context.progress.borrow().warnings.len();
        let reply = match self.inner.call(call).await {
            Ok(reply) => reply,
            Err(error) => {
                asking.end(None); // an error may be the caller's own: the others ask for themselves
                return Err(error);
            }
        };
        let warnings = call.context.progress.borrow().warnings.get(told_before..).unwrap_or_default().to_vec();
        let most = usize::try_from(self.store.size() / 8).unwrap_or(usize::MAX);
        let may_be_aborted = matches!(call.operation, Operation::Chat | Operation::Complete);
        let worth_it = move |tape: &Tape| !may_be_aborted || !tape.is_aborted();
        Ok(reply.taped(most, move |tape| asking.end(tape.filter(worth_it).map(|tape| Kept::new(tape, warnings)))))
    }
}

/// What another is answered, if it comes before the deadline; where it takes very long, the caller may as well ask itself.
async fn answer(call: &Call, asked: &mut Waiting) -> Result<Asked> {
    let left = call.context.left().unwrap_or(Duration::MAX);
    match tokio::time::timeout(left.min(LONGEST_WAIT), asked.answer()).await {
        Ok(answer) => Ok(answer),
        Err(_) if left > LONGEST_WAIT => Ok(Some(None)),
        Err(_) => {
            Err(Error::new(Kind::Timeout, "another asks the same, and was not answered before the caller's deadline"))
        }
    }
}

fn has_one_answer(call: &Call) -> bool {
    let is_fixed = |sampling: &Sampling| sampling.temperature == Some(0.0) || sampling.seed.is_some();
    // What gets lost in a translation is told to the caller when there is one.
    let call = call.clone().in_context(Context::default());
    call.operation.takes_turn()
        && match call.request() {
            Ok(Request::Chat(request)) => is_fixed(&request.sampling),
            Ok(Request::Complete(request)) => is_fixed(&request.sampling),
            Ok(_) => true,
            Err(_) => false, // whoever answers says what is wrong
        }
}
