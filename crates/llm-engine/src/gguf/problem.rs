//! What can be wrong with a GGUF file, each said in one sentence with its remedy.

/// Why a GGUF file was refused; [`super::check`] adds the file's name in front.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// The file cannot be opened or read.
    #[error("cannot be read: {0}")]
    Unreadable(#[from] std::io::Error),
    /// The first bytes are not `GGUF`.
    #[error("is not a GGUF file but {0}: give the path of a .gguf file")]
    NotGguf(String),
    /// A version before 2 or after 3, or a file for machines of the other byte order.
    #[error("is GGUF version {0}, and this program reads versions 2 and 3: convert it with a current llama.cpp")]
    Version(u32),
    /// The file stops before what its header promises.
    #[error("ends at byte {ends} but needs {needs}: it is incomplete, download it again")]
    Truncated {
        /// The file's length.
        ends: u64,
        /// The length its header promises, as far as it was understood.
        needs: u64,
    },
    /// The header contradicts itself or leaves every reasonable bound.
    #[error("is damaged ({0}): download it again")]
    Damaged(String),
    /// A sound file that this engine cannot use; the text ends with the remedy.
    #[error("{0}")]
    Unusable(String),
}

impl Problem {
    pub(super) fn damaged<T>(what: impl Into<String>) -> Result<T, Problem> {
        Err(Problem::Damaged(what.into()))
    }

    pub(super) fn unusable<T>(what: impl Into<String>) -> Result<T, Problem> {
        Err(Problem::Unusable(what.into()))
    }
}
