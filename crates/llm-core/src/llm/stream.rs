//! An answer while it is made.
use std::sync::Arc;
use std::time::Instant;

use futures_util::StreamExt;

use crate::call::*;
use crate::error::Result;

/// An answer as it is made.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> llm_core::Result<()> {
/// # let llm = llm_core::Llm::of(llm_core::provider::fake::Fake::says("Once upon a time"))?;
/// let mut story = llm.stream("Tell me a story.").await?;
/// while let Some(text) = story.next_text().await? {
///     print!("{text}");
/// }
/// println!("{:?}", story.so_far().usage);
/// # Ok(())
/// # }
/// ```
pub struct ChatStream {
    events: Frames,
    so_far: ChatReply,
    context: Arc<Context>,
    since: Instant,
}

impl ChatStream {
    pub(super) fn begin(reply: Reply, context: Arc<Context>, since: Instant) -> ChatStream {
        let queued = context.progress.borrow().queued;
        let timings = Timings { queued, first: since.elapsed(), ..Timings::default() };
        ChatStream { events: reply.events(), so_far: ChatReply { timings, ..ChatReply::default() }, context, since }
    }

    /// The next event; `None` at the end.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> llm_core::Result<()> {
    /// # let llm = llm_core::Llm::of(llm_core::provider::fake::Fake::says("It scatters."))?;
    /// use llm_core::Event;
    /// let mut answer = llm.stream("Why is the sky blue?").await?;
    /// while let Some(event) = answer.next().await? {
    ///     match event {
    ///         Event::Reasoning(thought) => eprint!("{thought}"),
    ///         Event::Text(words) => print!("{words}"),
    ///         _ => {} // tool calls, the finish, the cost: all are in `so_far`
    ///     }
    /// }
    /// println!("{:?}", answer.so_far().finish_reason);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// What broke the answer off. Nothing follows.
    pub async fn next(&mut self) -> Result<Option<Event>> {
        while let Some(frame) = self.events.next().await.transpose()? {
            if let Frame::Event(event) = frame {
                self.so_far.add(event.clone());
                return Ok(Some(event));
            }
        }
        self.so_far.timings.total = self.since.elapsed();
        self.so_far.warnings = self.context.progress.borrow().warnings.clone();
        if self.so_far.finish_reason.is_none() { Err(truncated()) } else { Ok(None) }
    }

    /// The next words; `None` at the end.
    ///
    /// # Errors
    /// As [`ChatStream::next`].
    pub async fn next_text(&mut self) -> Result<Option<String>> {
        loop {
            match self.next().await? {
                Some(Event::Text(text)) => return Ok(Some(text)),
                Some(_) => {}
                None => return Ok(None),
            }
        }
    }

    /// All that has come so far, put together: the finish reason, the cost and the warnings at the end.
    pub fn so_far(&self) -> &ChatReply {
        &self.so_far
    }
}
