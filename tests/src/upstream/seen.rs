//! What the upstream has seen, so that a test can tell a client that left from one that was answered.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
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

/// The tally, to be looked at or waited for, and the last bodies.
#[derive(Debug, Default)]
pub struct Seen {
    tally: watch::Sender<Tally>,
    bodies: Mutex<VecDeque<Bytes>>,
}

/// So many bodies are remembered: enough for a test, and few enough for a benchmark.
const REMEMBERED: usize = 64;

impl Seen {
    /// As it stands.
    pub fn now(&self) -> Tally {
        *self.tally.borrow()
    }

    /// Waits until the tally is as wanted; after the time, the tally that was not.
    pub async fn until(&self, within: Duration, wanted: impl FnMut(&Tally) -> bool) -> Result<Tally, Tally> {
        let mut watched = self.tally.subscribe();
        let waited = tokio::time::timeout(within, watched.wait_for(wanted)).await;
        waited.map(|tally| *tally.expect("the sender is borrowed")).map_err(|_| self.now())
    }

    /// The bodies of the last chats, the oldest first.
    pub fn bodies(&self) -> Vec<Bytes> {
        self.bodies.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    pub(super) fn remember(&self, body: Bytes) {
        let mut bodies = self.bodies.lock().unwrap_or_else(PoisonError::into_inner);
        if bodies.len() == REMEMBERED {
            bodies.pop_front();
        }
        bodies.push_back(body);
    }

    pub(super) fn visit(self: &Arc<Seen>) -> Visit {
        self.tally.send_modify(|tally| (tally.arrived, tally.open) = (tally.arrived + 1, tally.open + 1));
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
        self.seen.tally.send_modify(|tally| {
            tally.open -= 1;
            *if self.is_answered { &mut tally.answered } else { &mut tally.left } += 1;
        });
    }
}
