//! What can be asked, and whether the answer comes whole or as a stream.
use std::fmt;
use std::ops::BitOr;

/// One thing that can be asked of a provider.
///
/// ```
/// use llm_core::Operation;
/// assert_eq!(Operation::Chat.name(), "chat");
/// assert!(Operation::Chat.takes_turn() && !Operation::Tokenize.takes_turn());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Operation {
    /// Answer a conversation.
    Chat,
    /// Go on with a text.
    Complete,
    /// Turn texts into vectors.
    Embed,
    /// Order documents by how well they answer a query.
    Rerank,
    /// Tell how alike texts are.
    Score,
    /// Count a prompt's tokens, chat template included. Takes no turn in a queue.
    Tokenize,
    /// Turn token ids back into text. Takes no turn in a queue.
    Detokenize,
    /// List what can be asked of whom. Takes no turn in a queue.
    Models,
}

impl Operation {
    /// Every operation.
    pub const ALL: [Operation; 8] = [
        Self::Chat,
        Self::Complete,
        Self::Embed,
        Self::Rerank,
        Self::Score,
        Self::Tokenize,
        Self::Detokenize,
        Self::Models,
    ];

    /// The word for it in configuration, logs and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Chat => "chat",
            Self::Complete => "complete",
            Self::Embed => "embed",
            Self::Rerank => "rerank",
            Self::Score => "score",
            Self::Tokenize => "tokenize",
            Self::Detokenize => "detokenize",
            Self::Models => "models",
        }
    }

    /// Whether it makes a model work, so that it waits for its turn; counting never waits for itself.
    pub fn takes_turn(self) -> bool {
        !matches!(self, Self::Tokenize | Self::Detokenize | Self::Models)
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A set of operations.
///
/// ```
/// use llm_core::{Operation, Operations};
/// let able = Operations::CHAT | [Operation::Embed, Operation::Models].into();
/// assert!(able.contains(Operation::Embed) && !able.contains(Operation::Rerank));
/// assert_eq!(able.iter().count(), 3);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Operations(u8);

impl Operations {
    /// Nothing at all.
    pub const NONE: Operations = Operations(0);
    /// What a plain chat model does.
    pub const CHAT: Operations = Operations(1 << Operation::Chat as u8);
    /// Whatever is asked: a server that finds out by itself what it can do.
    pub const ALL: Operations = Operations(0xff);

    /// Whether this one is among them.
    pub fn contains(self, operation: Operation) -> bool {
        self.0 & (1 << operation as u8) != 0
    }

    /// Those that are in the set, in a fixed order.
    pub fn iter(self) -> impl Iterator<Item = Operation> {
        Operation::ALL.into_iter().filter(move |&o| self.contains(o))
    }
}

impl From<Operation> for Operations {
    fn from(operation: Operation) -> Self {
        Operations(1 << operation as u8)
    }
}

impl<const N: usize> From<[Operation; N]> for Operations {
    fn from(list: [Operation; N]) -> Self {
        list.into_iter().fold(Operations::NONE, |set, o| set | o.into())
    }
}

impl BitOr for Operations {
    type Output = Operations;
    fn bitor(self, other: Operations) -> Operations {
        Operations(self.0 | other.0)
    }
}

impl fmt::Debug for Operations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter().map(Operation::name)).finish()
    }
}

/// How the client wants its answer; the upstream is asked for the same.
///
/// ```
/// use llm_core::{Call, ChatRequest, Delivery};
/// assert_eq!(Call::new(ChatRequest::new("hi"), Delivery::Stream).delivery, Delivery::Stream);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Delivery {
    /// In one piece.
    #[default]
    Whole,
    /// Piece by piece, as it is made.
    Stream,
}
