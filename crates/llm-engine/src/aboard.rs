//! The clients whose texts are in the batch under way: when the last of them has left, nobody wants it, and it is stopped.

use crate::llama::Abort;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

#[derive(Default)]
pub(crate) struct Aboard {
    clients: Mutex<BTreeSet<u64>>,
    newest: AtomicU64,
    abort: Arc<Abort>,
}

impl Aboard {
    pub(crate) fn of(abort: Arc<Abort>) -> Aboard {
        Aboard { abort, ..Aboard::default() }
    }

    /// A number for one more client.
    pub(crate) fn newcomer(&self) -> u64 {
        self.newest.fetch_add(1, Relaxed)
    }

    /// The worker says so before a batch, and looks for clients that have left after that: so either it sees that one has,
    /// or that one is seen to leave here.
    pub(crate) fn enter(&self, clients: impl Iterator<Item = u64>) {
        let mut aboard = self.clients();
        self.abort.clear();
        aboard.extend(clients);
    }

    /// A client has left; the last one aboard stops the batch.
    pub(crate) fn leave(&self, client: u64) {
        let mut aboard = self.clients();
        if aboard.remove(&client) && aboard.is_empty() {
            self.abort.set();
        }
    }

    /// The batch is over.
    pub(crate) fn exit(&self) {
        self.clients().clear();
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.clients().is_empty()
    }

    fn clients(&self) -> MutexGuard<'_, BTreeSet<u64>> {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_who_leaves_stops_the_batch() {
        let aboard = Aboard::default();
        aboard.enter([1, 2, 2].into_iter());
        aboard.leave(1);
        assert!(!aboard.abort.is_set() && !aboard.is_empty());
        aboard.leave(3);
        assert!(!aboard.abort.is_set(), "a stranger stops nothing");
        aboard.leave(2);
        assert!(aboard.abort.is_set() && aboard.is_empty());
    }

    #[test]
    fn who_leaves_after_the_batch_stops_no_other() {
        let aboard = Aboard::default();
        aboard.enter([1].into_iter());
        aboard.exit();
        aboard.leave(1);
        assert!(!aboard.abort.is_set());
        aboard.enter([1].into_iter());
        aboard.leave(1);
        aboard.enter([2].into_iter());
        assert!(!aboard.abort.is_set(), "each batch begins anew");
    }
}
