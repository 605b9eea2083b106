//! What the upstream has seen, so that a test can tell a client that left from one that was answered.

use std::sync::Arc;
use std::time::Duration;

use hyper::Response;
use tokio::sync::watch;

use super::answer::Answer;

/// Chat requests by what became of them; who looks at the list of models is not counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Came in at all.
    pub arrived: usize,
    /// Are being answered now.
    pub open: usize,
    /// Were answered to the end, or broken off as the script told.
    pub answered: usize,
    /// Were given up by the client.
    pub left: usize,
}

/// The tally, to be looked at or waited for.
#[derive(Debug, Default)]
pub struct Seen(watch::Sender<Tally>);

impl Seen {
    /// As it stands.
    pub fn now(&self) -> Tally {
        *self.0.borrow()
    }

    /// Waits until the tally is as wanted; after the time, the tally that was not.
    pub async fn until(&self, within: Duration, wanted: impl FnMut(&Tally) -> bool) -> Result<Tally, Tally> {
        let mut watched = self.0.subscribe();
        let waited = tokio::time::timeout(within, watched.wait_for(wanted)).await;
        waited.map(|tally| *tally.expect("the sender is borrowed")).map_err(|_| self.now())
    }

    pub(super) fn visit(self: &Arc<Seen>) -> Visit {
        self.0.send_modify(|tally| (tally.arrived, tally.open) = (tally.arrived + 1, tally.open + 1));
        Visit { seen: Arc::clone(self), is_answered: false }
    }
}

/// One request while it is being answered; dropped before its end, the client has left.
pub(super) struct Visit {
    seen: Arc<Seen>,
    is_answered: bool,
}

impl Visit {
    /// The last word has been said.
    pub(super) fn end(mut self) {
        self.is_answered = true;
    }

    pub(super) fn ends(self, answer: Response<Answer>) -> Response<Answer> {
        self.end();
        answer
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        self.seen.0.send_modify(|tally| {
            tally.open -= 1;
            *if self.is_answered { &mut tally.answered } else { &mut tally.left } += 1;
        });
    }
}
