//! A reply that has begun: a stream of frames, watched to its end and written for whoever asked.
use bytes::{Bytes, BytesMut};
use futures_core::stream::BoxStream;
use futures_util::{StreamExt, future, stream};

use super::answers::*;
use super::end::{End, Listeners, invalid_answer, truncated, watched};
use super::frame::*;
use super::tape::{Recorder, Tape, Taping};
use super::written::Written;
use super::{Call, Delivery};
use crate::dialect::{Dialect, Reader};
use crate::error::{Error, Kind, Result};

/// The pieces of an answer, in order; nothing follows an error.
///
/// ```
/// use futures_util::{StreamExt, stream};
/// use llm_core::{Event, Frame, Frames};
/// let frames: Frames = stream::iter([Ok(Frame::Event(Event::Text("hi".into())))]).boxed();
/// # drop(frames);
/// ```
pub type Frames = BoxStream<'static, Result<Frame>>;

/// The pieces of an answer as bytes for a client; a failure is told inside, in the client's dialect.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> llm_core::Result<()> {
/// use futures_util::StreamExt;
/// use llm_core::{Bodies, Call, ChatRequest, Delivery, Reply, dialect};
/// let call = Call::new(ChatRequest::new("?"), Delivery::Stream);
/// let mut bodies: Bodies = Reply::says("hi").stream(dialect::openai(), &call);
/// let mut last = bytes::Bytes::new();
/// while let Some(event) = bodies.next().await {
///     last = event;
/// }
/// assert!(last.ends_with(b"data: [DONE]\n\n"));
/// # Ok(())
/// # }
/// ```
pub type Bodies = BoxStream<'static, Bytes>;

/// A stream of frames that has begun; embeddings, and every whole JSON reply, are one frame.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> llm_core::Result<()> {
/// use futures_util::{StreamExt, stream};
/// use llm_core::{Call, ChatRequest, Delivery, Error, Event, FinishReason, Frame, Kind, ModelInfo, Reply, dialect};
/// // A stream becomes a reply with its first frame; one that fails before is no reply.
/// let frames = [Event::Text("hi".into()), Event::Finish(FinishReason::Stop)].map(|event| Ok(Frame::Event(event)));
/// let reply = Reply::begun(stream::iter(frames).boxed()).await?;
/// assert_eq!(reply.chat().await?.text, "hi");
/// let failing = stream::iter([Err(Error::new(Kind::Overloaded, "all are busy"))]).boxed();
/// assert_eq!(Reply::begun(failing).await.unwrap_err().kind(), Kind::Overloaded);
///
/// // An answer in one frame is there at once, and can be looked at on its way.
/// let reply = Reply::of(Frame::Models(vec![ModelInfo { id: "coder".into(), ..ModelInfo::default() }]));
/// assert!(reply.is_here());
/// let check = |frame: &Frame| if matches!(frame, Frame::Models(_)) { Ok(()) } else { Err(Error::invalid("?")) };
/// assert_eq!(reply.checked(check).await?.models().await?[0].id, "coder");
/// let text = |frame: Frame| if let Frame::Text(text) = frame { Some(text) } else { None };
/// assert_eq!(Reply::of(Frame::Text("hi".into())).single(text).await?, "hi");
///
/// // Policies wrap the frames; a door writes them for its client.
/// let reply = Reply::says("one two").map(|frames| frames.inspect(|_| { /* count them */ }).boxed());
/// let body = reply.whole(dialect::openai(), &Call::new(ChatRequest::new("?"), Delivery::Whole)).await?;
/// assert!(String::from_utf8_lossy(&body).contains("one two"));
/// # Ok(())
/// # }
/// ```
pub struct Reply {
    dialect: Option<&'static dyn Dialect>, // of the wire frames; nouns have none
    delivery: Delivery,                    // of the wire frames
    source: Source,
}

enum Source {
    /// All of it: a stream around it, and one more for everybody who is told of its end, would cost as much as the rest
    /// of the way.
    One(Frame, Listeners),
    Many(Frames),
}

impl std::fmt::Debug for Reply {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reply").field("dialect", &self.dialect.map(|d| d.name())).finish_non_exhaustive()
    }
}

impl Reply {
    /// The only way from a stream to a reply; it waits for the first frame.
    ///
    /// # Errors
    /// The stream's own, if its first item is one, so that a retry can act on it; `Upstream` if there is no first item.
    pub async fn begun(mut frames: Frames) -> Result<Reply> {
        let first = frames.next().await.ok_or_else(|| Error::new(Kind::Upstream, "the reply is empty"))??;
        let frames = stream::once(future::ready(Ok(first))).chain(frames).boxed();
        Ok(Reply { dialect: None, delivery: Delivery::Stream, source: Source::Many(frames) })
    }

    /// The same for frames in an upstream's bytes.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> llm_core::Result<()> {
    /// use futures_util::{StreamExt, stream};
    /// use llm_core::{Delivery, Frame, Reply, Wire, dialect};
    /// let event = "data: {\"choices\":[{\"delta\":{\"content\":\"hi\"},\"finish_reason\":\"stop\"}]}\n\n";
    /// let frames = stream::iter([Ok(Frame::Wire(Wire { bytes: event.into(), ..Wire::default() }))]).boxed();
    /// let reply = Reply::forwarded(dialect::openai(), Delivery::Stream, frames).await?;
    /// assert_eq!(reply.chat().await?.text, "hi");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Reply::begun`].
    pub async fn forwarded(dialect: &'static dyn Dialect, delivery: Delivery, frames: Frames) -> Result<Reply> {
        Ok(Reply { dialect: Some(dialect), delivery, ..Reply::begun(frames).await? })
    }

    /// One frame, there already.
    pub fn of(frame: Frame) -> Reply {
        let source = Source::One(frame, Listeners::default());
        Reply { dialect: None, delivery: Delivery::Stream, source }
    }

    /// One frame of an upstream's bytes, there already; see [`Wire`] for an example.
    ///
    /// ```
    /// use llm_core::{Reply, Wire, dialect};
    /// assert!(Reply::of_wire(dialect::openai(), Wire::default()).is_here());
    /// ```
    pub fn of_wire(dialect: &'static dyn Dialect, wire: Wire) -> Reply {
        Reply { dialect: Some(dialect), delivery: Delivery::Whole, ..Reply::of(Frame::Wire(wire)) }
    }

    /// An answer of one text, for small providers and tests.
    pub fn says(text: impl Into<String>) -> Reply {
        let frames = [Event::Text(text.into()), Event::Finish(FinishReason::Stop)].map(|e| Ok(Frame::Event(e)));
        Reply { dialect: None, delivery: Delivery::Stream, source: Source::Many(stream::iter(frames).boxed()) }
    }

    /// Tells the end once, after what lies below has gone. What the closure owns lives until then.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> llm_core::Result<()> {
    /// use std::sync::{Arc, Mutex};
    /// use llm_core::{End, Reply};
    /// let end = Arc::new(Mutex::new(None));
    /// let told = end.clone();
    /// let reply = Reply::says("hi").on_end(move |how| *told.lock().unwrap() = Some(how));
    /// assert_eq!(*end.lock().unwrap(), None);
    /// reply.chat().await?;
    /// assert_eq!(*end.lock().unwrap(), Some(End::Finished(None)));
    /// # Ok(())
    /// # }
    /// ```
    pub fn on_end(mut self, told: impl FnOnce(End) + Send + 'static) -> Reply {
        if let Source::One(_, listeners) = &mut self.source {
            listeners.0.push(Box::new(told));
            return self;
        }
        self.map(|frames| watched(frames, Box::new(told)))
    }

    /// Whether all of it is here, so that there is nothing to wait for.
    pub fn is_here(&self) -> bool {
        matches!(self.source, Source::One(..))
    }

    /// Wraps the frames.
    pub fn map(self, f: impl FnOnce(Frames) -> Frames) -> Reply {
        Reply { source: Source::Many(f(self.source.frames())), ..self }
    }

    /// Keeps what passes, as long as it is not larger than so many bytes, and tells of it when all has passed; of a reply that is
    /// too large or fails, that there is none; and nothing, if it is left.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> llm_core::Result<()> {
    /// let (kept, tapes) = std::sync::mpsc::channel();
    /// let reply = llm_core::Reply::says("hi").taped(1 << 20, move |tape| kept.send(tape).unwrap());
    /// reply.chat().await?;
    /// assert!(tapes.recv().unwrap().is_some());
    /// # Ok(())
    /// # }
    /// ```
    pub fn taped(self, most: usize, told: impl FnOnce(Option<Tape>) + Send + 'static) -> Reply {
        let mut recorder = Recorder::new(self.dialect, self.delivery, most, Box::new(told));
        if let Source::One(frame, _) = &self.source {
            recorder.add(frame);
            recorder.end();
            return self;
        }
        self.map(|frames| Taping { frames, recorder }.boxed())
    }

    pub(super) fn played(tape: &Tape) -> Reply {
        let source = match &tape.frames[..] {
            [frame] => Source::One(frame.clone(), Listeners::default()),
            frames => Source::Many(stream::iter(frames.to_vec()).map(Ok).boxed()),
        };
        Reply { dialect: tape.dialect, delivery: tape.delivery, source }
    }

    /// Looks at the one frame of a reply, understood, and passes the reply on as it came if it is as it should be.
    ///
    /// # Errors
    /// The check's own; the stream's, and `Upstream` if nothing comes.
    pub async fn checked(mut self, check: impl FnOnce(&Frame) -> Result<()>) -> Result<Reply> {
        if let Source::Many(frames) = self.source {
            let (first, rest) = frames.into_future().await;
            let first = first.ok_or_else(|| Error::new(Kind::Upstream, "the reply is empty"))??;
            examine(self.dialect, &first, check)?;
            let frames = stream::once(future::ready(Ok(first))).chain(rest).boxed();
            return Ok(Reply { source: Source::Many(frames), ..self });
        }
        if let Source::One(frame, _) = &mut self.source {
            examine(self.dialect, frame, check)?;
        }
        Ok(self)
    }

    /// The pieces as nouns, for programs.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> llm_core::Result<()> {
    /// use futures_util::StreamExt;
    /// use llm_core::{Event, Frame, Reply};
    /// let first = Reply::says("hi").events().next().await.unwrap()?;
    /// assert!(matches!(first, Frame::Event(Event::Text(words)) if words == "hi"));
    /// # Ok(())
    /// # }
    /// ```
    pub fn events(self) -> Frames {
        match self.dialect {
            None => self.source.frames(),
            Some(dialect) => understood(dialect.reader(), self.source.frames()),
        }
    }

    /// A chat's or completion's answer, put together.
    ///
    /// # Errors
    /// The stream's own.
    pub async fn chat(self) -> Result<ChatReply> {
        let (mut answer, mut events) = (ChatReply::default(), self.events());
        while let Some(frame) = events.next().await {
            if let Frame::Event(event) = frame? {
                answer.add(event);
            }
        }
        if answer.finish_reason.is_none() {
            return Err(truncated());
        }
        Ok(answer)
    }

    /// The models of a list.
    ///
    /// # Errors
    /// The stream's own; `Upstream` if it is something else.
    pub async fn models(self) -> Result<Vec<ModelInfo>> {
        self.single(|frame| if let Frame::Models(models) = frame { Some(models) } else { None }).await
    }

    /// The one frame of a reply that has one.
    ///
    /// # Errors
    /// The stream's own; `Upstream` if it is something else.
    pub async fn single<T>(self, pick: impl FnOnce(Frame) -> Option<T>) -> Result<T> {
        let frame = self.events().next().await.unwrap_or_else(|| Err(truncated()))?;
        pick(frame).ok_or_else(|| invalid_answer("the upstream answered something else than was asked"))
    }

    /// The whole answer in the client's dialect: the upstream's own bytes if they can be.
    ///
    /// # Errors
    /// The stream's own; nothing was sent to the client yet.
    pub async fn whole(self, client: &'static dyn Dialect, call: &Call) -> Result<Bytes> {
        if self.is_as_asked(client, Delivery::Whole) {
            return self.source.whole().await;
        }
        let (mut writer, mut events, mut out) = (client.writer(call), self.events(), BytesMut::new());
        while let Some(frame) = events.next().await {
            writer.write(frame?, &mut out)?;
        }
        writer.end(&mut out)?;
        Ok(out.freeze())
    }

    /// The answer as a stream in the client's dialect: the upstream's own bytes if they can be.
    /// It always ends with a finish or an error, and then exactly one last word.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> llm_core::Result<()> {
    /// use futures_util::StreamExt;
    /// use llm_core::{Call, ChatRequest, Delivery, Reply, dialect};
    /// let call = Call::new(ChatRequest::new("?"), Delivery::Stream);
    /// let events: Vec<_> = Reply::says("hi").stream(dialect::openai(), &call).collect().await;
    /// assert!(events.last().unwrap().ends_with(b"data: [DONE]\n\n"));
    /// # Ok(())
    /// # }
    /// ```
    pub fn stream(self, client: &'static dyn Dialect, call: &Call) -> Bodies {
        // What was asked in nouns may tell a cost that nobody asked for: the writer knows.
        let is_as_asked = self.is_as_asked(client, Delivery::Stream) && call.is_as_it_came(&[client]);
        let writer = (!is_as_asked).then(|| client.writer(call));
        let frames = if writer.is_some() { self.events() } else { self.source.frames() };
        Written::new(frames, writer, client).boxed()
    }

    fn is_as_asked(&self, client: &'static dyn Dialect, delivery: Delivery) -> bool {
        self.delivery == delivery && self.dialect.is_some_and(|d| d.name() == client.name())
    }
}

fn examine(dialect: Option<&dyn Dialect>, frame: &Frame, check: impl FnOnce(&Frame) -> Result<()>) -> Result<()> {
    let (Frame::Wire(wire), Some(dialect)) = (frame, dialect) else { return check(frame) };
    let mut nouns = Vec::new();
    dialect.reader().read(&wire.bytes, &mut nouns)?;
    check(nouns.first().ok_or_else(|| Error::new(Kind::Upstream, "the reply is empty"))?)
}

impl Source {
    fn frames(self) -> Frames {
        match self {
            Source::Many(frames) => frames,
            Source::One(frame, mut listeners) => {
                let frames = stream::once(future::ready(Ok(frame))).boxed();
                std::mem::take(&mut listeners.0).into_iter().fold(frames, watched)
            }
        }
    }

    async fn whole(self) -> Result<Bytes> {
        let frame = match self {
            Source::One(frame, listeners) => {
                listeners.look(&frame);
                frame
            }
            Source::Many(mut frames) => {
                frames.next().await.ok_or_else(|| Error::new(Kind::Upstream, "the reply is empty"))??
            }
        };
        let Frame::Wire(wire) = frame else { return Err(Error::new(Kind::Internal, "a noun among forwarded bytes")) };
        Ok(wire.bytes)
    }
}

fn understood(mut reader: Box<dyn Reader>, frames: Frames) -> Frames {
    frames
        .map(move |frame| {
            let mut nouns = Vec::new();
            let failure = match frame {
                Ok(Frame::Wire(wire)) => {
                    let failure = reader.read(&wire.bytes, &mut nouns).err();
                    nouns.extend(usage_beside(&wire, &nouns));
                    failure
                }
                Ok(noun) => return vec![Ok(noun)],
                Err(error) => Some(error),
            };
            nouns.into_iter().map(Ok).chain(failure.map(Err)).collect()
        })
        .flat_map(stream::iter)
        .boxed()
}

/// What an answer cost, where the bytes that said it were taken out because a client of bytes had not asked for them.
fn usage_beside(wire: &Wire, nouns: &[Frame]) -> Option<Frame> {
    let is_told = nouns.iter().any(|noun| matches!(noun, Frame::Event(Event::Usage(_)) | Frame::Vectors(_)));
    wire.glance.usage.filter(|_| !is_told).map(|usage| Frame::Event(Event::Usage(usage)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::{ChatRequest, Operation};
    use crate::dialect;
    use std::sync::mpsc;

    fn told(reply: Reply) -> (Reply, mpsc::Receiver<End>) {
        let (tell, ends) = mpsc::channel();
        (reply.on_end(move |end| tell.send(end).unwrap()), ends)
    }

    fn text(text: &str) -> Result<Frame> {
        Ok(Frame::Event(Event::Text(text.into())))
    }

    #[tokio::test]
    async fn the_end_is_told_once_whether_finished_failed_or_dropped() {
        let (reply, ends) = told(Reply::says("hi"));
        reply.events().collect::<Vec<_>>().await;
        assert_eq!(ends.iter().collect::<Vec<_>>(), [End::Finished(None)]);

        let failing = stream::iter([text("half"), Err(Error::new(Kind::Timeout, "too slow"))]).boxed();
        let (reply, ends) = told(Reply::begun(failing).await.unwrap());
        assert!(reply.events().collect::<Vec<_>>().await.pop().unwrap().is_err());
        assert_eq!(ends.iter().collect::<Vec<_>>(), [End::Failed(Kind::Timeout)]);

        let (reply, ends) = told(Reply::says("hi"));
        drop(reply);
        assert_eq!(ends.iter().collect::<Vec<_>>(), [End::Dropped]);
    }

    #[tokio::test]
    async fn a_stream_without_a_finish_has_failed() {
        let (reply, ends) = told(Reply::begun(stream::iter([text("half")]).boxed()).await.unwrap());
        let last = reply.events().collect::<Vec<_>>().await.pop().unwrap();
        assert_eq!(last.unwrap_err().get_code(), Some("stream_truncated"));
        assert_eq!(ends.recv().unwrap(), End::Failed(Kind::Upstream));
    }

    #[tokio::test]
    async fn the_end_is_told_after_what_lies_below_has_gone() {
        let (order, seen) = mpsc::channel();
        let outer = order.clone();
        let reply = Reply::says("hi")
            .on_end(move |_| order.send("inner").unwrap())
            .on_end(move |_| outer.send("outer").unwrap());
        drop(reply);
        assert_eq!(seen.iter().collect::<Vec<_>>(), ["inner", "outer"]);
    }

    #[tokio::test]
    async fn an_error_before_the_first_frame_is_the_calls() {
        let failing = stream::iter([Err(Error::new(Kind::Loading, "loading")), text("never")]).boxed();
        assert_eq!(Reply::begun(failing).await.unwrap_err().kind(), Kind::Loading);
        assert!(Reply::begun(stream::empty().boxed()).await.is_err());
    }

    #[tokio::test]
    async fn a_stream_ends_with_a_failure_and_one_last_word() {
        let call = Call::new(ChatRequest::new("?"), Delivery::Stream);
        assert_eq!(call.operation, Operation::Chat);
        let failing = stream::iter([text("half"), Err(truncated())]).boxed();
        let chunks = Reply::begun(failing).await.unwrap().stream(dialect::openai(), &call).collect::<Vec<_>>().await;
        let all = String::from_utf8(chunks.concat()).unwrap();
        assert!(all.contains("stream_truncated") && all.ends_with("data: [DONE]\n\n"), "{all}");
        assert_eq!(all.matches("[DONE]").count(), 1);
    }
}
