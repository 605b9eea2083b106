//! What is kept, and who is asking what just now.
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use moka::sync::Cache;
use sha2::{Digest, Sha256};
use tokio::sync::watch;

use crate::call::*;
use crate::dialect::DIALECTS;
use crate::error::Result;

/// All that makes an answer what it is, so that two questions with one key have one answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Key([u8; 32]);

impl Key {
    /// # Errors
    /// As [`Call::wire`].
    pub(super) fn of(call: &Call, per_caller: bool) -> Result<Key> {
        let wired = call.wire(DIALECTS)?;
        let caller = if per_caller { call.context.caller.as_str() } else { "" };
        let mut hash = Sha256::new();
        let delivery = format!("{:?}", call.delivery);
        for part in [caller, &call.model, call.operation.name(), &delivery, wired.dialect.name()] {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        hash.update(&wired.bytes);
        Ok(Key(hash.finalize().into()))
    }
}

/// An answer, and what its caller was told beside it.
#[derive(Clone)]
pub(super) struct Kept {
    tape: Tape,
    warnings: Arc<[String]>,
    since: Instant,
}

impl Kept {
    pub(super) fn new(tape: Tape, warnings: Vec<String>) -> Kept {
        Kept { tape, warnings: warnings.into(), since: Instant::now() }
    }

    pub(super) fn given_to(&self, call: &Call) -> Reply {
        self.warnings.iter().for_each(|warning| call.context.warn(warning));
        call.context.tell(|p| p.cached = Some(Cached::Hit(self.since.elapsed())));
        self.tape.play()
    }

    fn size(&self) -> usize {
        let warnings: usize = self.warnings.iter().map(String::len).sum();
        size_of::<Key>() + size_of::<Kept>() + self.tape.size() + warnings
    }
}

/// How a question that somebody asks just now stands: being asked, or its answer, or that it left none to be kept.
pub(super) type Asked = Option<Option<Kept>>;

/// The answers of a model.
pub(super) struct Store(Arc<Shared>);

struct Shared {
    kept: Cache<Key, Kept>,
    asked: Mutex<HashMap<Key, watch::Receiver<Asked>>>,
    size: u64,
}

/// What there is for a key.
pub(super) enum Found {
    /// The answer.
    Kept(Kept),
    /// Nothing yet, and the caller is the one to ask.
    Nothing(Asking),
    /// Nothing yet, and another is asking.
    Asked(Waiting),
}

impl Store {
    pub(super) fn new(size: u64, ttl: Duration) -> Store {
        let weigher = |_: &Key, kept: &Kept| u32::try_from(kept.size()).unwrap_or(u32::MAX);
        let kept = Cache::builder().max_capacity(size).weigher(weigher).time_to_live(ttl).build();
        Store(Arc::new(Shared { kept, asked: Mutex::default(), size }))
    }

    pub(super) fn size(&self) -> u64 {
        self.0.size
    }

    pub(super) fn find(&self, key: &Key) -> Found {
        if let Some(kept) = self.0.kept.get(key) {
            return Found::Kept(kept);
        }
        let mut asked = self.0.asked.lock().unwrap_or_else(PoisonError::into_inner);
        match asked.entry(*key) {
            Entry::Occupied(other) => Found::Asked(Waiting(other.get().clone())),
            Entry::Vacant(free) => {
                // It may have been answered since we looked.
                if let Some(kept) = self.0.kept.get(key) {
                    return Found::Kept(kept);
                }
                let (told, others) = watch::channel(None);
                free.insert(others);
                Found::Nothing(Asking { store: self.0.clone(), key: *key, told: Some(told) })
            }
        }
    }

    /// The caller asks in any case, and nobody waits for it.
    pub(super) fn renew(&self, key: Key) -> Asking {
        Asking { store: self.0.clone(), key, told: None }
    }
}

/// Another asks.
pub(super) struct Waiting(watch::Receiver<Asked>);

impl Waiting {
    /// Its answer, if there is one to be had; `None` if it has left.
    pub(super) async fn answer(&mut self) -> Asked {
        self.0.wait_for(Option::is_some).await.ok().and_then(|answer| answer.clone())
    }
}

/// The right to ask; who drops it leaves the question to the next one.
pub(super) struct Asking {
    store: Arc<Shared>,
    key: Key,
    told: Option<watch::Sender<Asked>>, // where others may wait
}

impl Asking {
    /// The answer, or that there is none to be kept.
    pub(super) fn end(mut self, answer: Option<Kept>) {
        if let Some(kept) = &answer {
            self.store.kept.insert(self.key, kept.clone());
        }
        self.close();
        if let Some(told) = self.told.take() {
            told.send_replace(Some(answer));
        }
    }

    fn close(&self) {
        if self.told.is_some() {
            self.store.asked.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
        }
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        self.close(); // before those who wait learn of it
    }
}
