//! Stops a decode that is under way when a client whose rows are in it has left.

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

/// Set from any thread, read by ggml between two nodes of its graph, so a decode ends within milliseconds.
#[derive(Debug, Default)]
pub(crate) struct Abort(AtomicBool);

impl Abort {
    pub(crate) fn set(&self) {
        self.0.store(true, SeqCst);
    }

    pub(crate) fn clear(&self) {
        self.0.store(false, SeqCst);
    }

    pub(crate) fn is_set(&self) -> bool {
        // Relaxed would do for ggml's polls; SeqCst orders it with the jobs' own flags (see `Leave`).
        self.0.load(SeqCst)
    }
}
