//! Which deployment still knows what a call begins with: calls of one session, or with one beginning, like to meet the
//! same one again, whose prefix cache saves it reading the prompt anew.
use std::hash::{DefaultHasher, Hash, Hasher};

use crate::call::Call;

/// So much of a prompt tells its kind: an agent's system prompt is longer, and a shorter one is soon read.
const BEGINNING: usize = 2 << 10;

/// What a call has in common with those that should go where it goes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Kin(u64);

/// By its session, as the door or the body tells it; or by the beginning of its prompt.
pub(super) fn of(call: &Call) -> Option<Kin> {
    let session = call.context.session.as_deref().map(str::as_bytes);
    let told = session.or_else(|| call.raw("prompt_cache_key"));
    let prompt = || call.raw("messages").or_else(|| call.raw("prompt"));
    let beginning = || prompt().and_then(|prompt| prompt.get(..BEGINNING));
    told.or_else(beginning).map(|bytes| Kin(hash(|to| bytes.hash(to))))
}

impl Kin {
    /// Each deployment is at another distance, for each kin in another order, so that one that goes takes along only its
    /// own (rendezvous hashing).
    pub(super) fn distance_to(self, name: &str) -> u64 {
        hash(|to| (self.0, name).hash(to))
    }
}

fn hash(what: impl FnOnce(&mut DefaultHasher)) -> u64 {
    let mut hasher = DefaultHasher::new();
    what(&mut hasher);
    hasher.finish()
}
