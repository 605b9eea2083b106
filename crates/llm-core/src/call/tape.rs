//! A reply that is kept while it passes, and given again as it was.
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as Task, Poll};

use bytes::BytesMut;
use futures_core::Stream;
use futures_util::StreamExt;

use super::end::Seen;
use super::frame::*;
use super::reply::Frames;
use super::{Delivery, Reply};
use crate::dialect::Dialect;
use crate::error::Result;

/// A whole reply that can be given again, any number of times; cheap to clone.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> llm_core::Result<()> {
/// use std::sync::mpsc::channel;
/// use llm_core::{Reply, Tape};
/// let (kept, tapes) = channel();
/// let reply = Reply::says("hi").taped(1 << 20, move |tape: Option<Tape>| kept.send(tape).unwrap());
/// assert_eq!(reply.chat().await?.text, "hi");
/// let tape = tapes.recv().unwrap().expect("it came to its end, and was short");
/// assert_eq!((tape.play().chat().await?.text.as_str(), tape.size() > 2), ("hi", true));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Tape {
    pub(super) dialect: Option<&'static dyn Dialect>,
    pub(super) delivery: Delivery,
    pub(super) frames: Arc<[Frame]>,
    size: usize,
}

impl Tape {
    /// The reply again, all of it at once.
    pub fn play(&self) -> Reply {
        Reply::played(self)
    }

    /// About how many bytes of memory it takes.
    pub fn size(&self) -> usize {
        self.size
    }
}

/// Who is told of the whole reply, or that there is none to keep; dropped untold where the client leaves.
type Told = Box<dyn FnOnce(Option<Tape>) + Send>;

/// Keeps what passes, up to a size.
pub(super) struct Recorder {
    tape: Tape,
    wire: Option<(BytesMut, Glance)>, // all events of a stream are one frame, and hold on to no buffer of the connection's
    nouns: Vec<Frame>,
    seen: Seen,
    most: usize,
    told: Option<Told>,
}

impl Recorder {
    pub(super) fn new(dialect: Option<&'static dyn Dialect>, delivery: Delivery, most: usize, told: Told) -> Recorder {
        let tape = Tape { dialect, delivery, frames: Arc::new([]), size: 0 };
        Recorder { tape, wire: None, nouns: Vec::new(), seen: Seen::default(), most, told: Some(told) }
    }

    pub(super) fn add(&mut self, frame: &Frame) {
        if self.told.is_none() {
            return;
        }
        self.tape.size += size(frame);
        if self.tape.size > self.most {
            return self.give_up();
        }
        self.seen.look(frame);
        match frame {
            Frame::Wire(wire) => {
                let (bytes, glance) = self.wire.get_or_insert_default();
                bytes.extend_from_slice(&wire.bytes);
                glance.is_finished |= wire.glance.is_finished;
                glance.is_done |= wire.glance.is_done;
                glance.usage = wire.glance.usage.or(glance.usage);
            }
            noun => self.nouns.push(noun.clone()),
        }
    }

    /// Nothing follows.
    pub(super) fn end(&mut self) {
        let Some(told) = self.told.take() else { return };
        let wire = self.wire.take().map(|(bytes, glance)| Frame::Wire(Wire { bytes: bytes.freeze(), glance }));
        let mut frames = std::mem::take(&mut self.nouns);
        let is_mixed = wire.is_some() && !frames.is_empty();
        frames.extend(wire);
        let tape = Tape { frames: frames.into(), ..self.tape.clone() };
        told((self.seen.is_finished() && !is_mixed).then_some(tape));
    }

    fn give_up(&mut self) {
        (self.wire, self.nouns) = (None, Vec::new());
        if let Some(told) = self.told.take() {
            told(None);
        }
    }
}

#[cfg(feature = "cache")]
impl Tape {
    /// Whether it ended for a reason of the host's own: a vLLM that is told to stop ends its answers with `abort`, and 200.
    pub(crate) fn is_aborted(&self) -> bool {
        let is_odd = |frame: &Frame| matches!(frame, Frame::Event(Event::Finish(super::FinishReason::Other(_))));
        self.frames.iter().any(|frame| match (frame, self.dialect) {
            (Frame::Wire(wire), Some(dialect)) => {
                let mut nouns = Vec::new();
                dialect.reader().read(&wire.bytes, &mut nouns).is_err() || nouns.iter().any(is_odd)
            }
            (frame, _) => is_odd(frame),
        })
    }
}

/// Frames on their way, recorded.
pub(super) struct Taping {
    pub(super) frames: Frames,
    pub(super) recorder: Recorder,
}

impl Stream for Taping {
    type Item = Result<Frame>;

    fn poll_next(mut self: Pin<&mut Self>, task: &mut Task<'_>) -> Poll<Option<Self::Item>> {
        let item = std::task::ready!(self.frames.poll_next_unpin(task));
        match &item {
            Some(Ok(frame)) => self.recorder.add(frame),
            Some(Err(_)) => self.recorder.give_up(),
            None => self.recorder.end(),
        }
        Poll::Ready(item)
    }
}

fn size(frame: &Frame) -> usize {
    let more = match frame {
        Frame::Wire(wire) => wire.bytes.len(),
        Frame::Event(Event::Text(text) | Event::Reasoning(text)) | Frame::Text(text) => text.len(),
        Frame::Event(Event::ToolCall(value) | Event::Logprobs(value)) => value.to_string().len(),
        Frame::Event(Event::ReplyFields(fields) | Event::MessageFields(fields) | Event::ChoiceFields(fields)) => {
            fields.len() * 64
        }
        Frame::Event(_) => 0,
        Frame::Vectors(vectors) => vectors.vectors.iter().map(|vector| vector.len() * size_of::<f32>()).sum(),
        Frame::Ranking(ranking) => ranking.results.len() * 64,
        Frame::Scores(scores) => scores.scores.len() * 16,
        Frame::Tokens(tokens) => tokens.tokens.len() * size_of::<u32>(),
        Frame::Models(models) => models.len() * size_of::<super::ModelInfo>(),
    };
    size_of::<Frame>() + more
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::{Call, ChatRequest, FinishReason, Operation};
    use crate::dialect;
    use crate::error::{Error, Kind};
    use futures_util::stream;
    use std::sync::mpsc::{Receiver, channel};

    fn taped(reply: Reply, most: usize) -> (Reply, Receiver<Option<Tape>>) {
        let (kept, tapes) = channel();
        (reply.taped(most, move |tape| kept.send(tape).unwrap()), tapes)
    }

    fn events(events: &[Event]) -> Frames {
        stream::iter(events.to_vec()).map(|event| Ok(Frame::Event(event))).boxed()
    }

    async fn forwarded(parts: &[&str]) -> Reply {
        let frame = |part: &&str| {
            let bytes = bytes::Bytes::copy_from_slice(part.as_bytes());
            Ok(Frame::Wire(Wire { glance: dialect::openai().glance(&bytes), bytes }))
        };
        let frames: Vec<_> = parts.iter().map(frame).collect();
        Reply::forwarded(dialect::openai(), Delivery::Stream, stream::iter(frames).boxed()).await.unwrap()
    }

    const WORD: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"hi\"},\"finish_reason\":null}]}\n\n";
    const FINISH: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n";
    const DONE: &str = "data: [DONE]\n\n";

    async fn streamed(reply: Reply) -> String {
        let asked = r#"{"stream":true,"messages":[{"role":"user","content":"?"}]}"#;
        let call = Call::read(Operation::Chat, dialect::openai(), asked.into()).unwrap();
        let bytes = reply.stream(dialect::openai(), &call).collect::<Vec<_>>().await.concat();
        String::from_utf8(bytes).unwrap()
    }

    #[tokio::test]
    async fn a_forwarded_stream_is_given_again_byte_by_byte() {
        let (reply, tapes) = taped(forwarded(&[WORD, FINISH, DONE]).await, 10_000);
        let first = streamed(reply).await;
        let tape = tapes.recv().unwrap().unwrap();
        assert_eq!(first, [WORD, FINISH, DONE].concat());
        assert_eq!((streamed(tape.play()).await, streamed(tape.play()).await), (first.clone(), first));
        assert_eq!(tape.play().chat().await.unwrap().text, "hi", "and can be understood");
    }

    #[tokio::test]
    async fn a_cost_that_nobody_asked_for_is_not_streamed_to_who_asked_in_nouns() {
        let cost = "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":1}}\n\n";
        let streamed = async |call: Call| {
            let reply = forwarded(&[WORD, FINISH, cost, DONE]).await;
            let bytes = reply.stream(dialect::openai(), &call).collect::<Vec<_>>().await.concat();
            String::from_utf8(bytes).unwrap()
        };
        let silent = streamed(Call::new(ChatRequest::new("?"), Delivery::Stream)).await;
        assert!(silent.contains("hi") && !silent.contains("usage") && silent.ends_with(DONE), "{silent}");
        let asks = ChatRequest::new("?").extra("stream_options", serde_json::json!({"include_usage": true}));
        assert!(streamed(Call::new(asks, Delivery::Stream)).await.contains(r#""completion_tokens":1"#));
    }

    #[tokio::test]
    async fn what_is_too_long_breaks_off_or_fails_is_not_kept() {
        let (reply, tapes) = taped(forwarded(&[WORD, WORD, FINISH, DONE]).await, 400);
        assert_eq!(streamed(reply).await, [WORD, WORD, FINISH, DONE].concat(), "it passes all the same");
        assert!(tapes.recv().unwrap().is_none());
        let (reply, tapes) = taped(forwarded(&[WORD]).await, 10_000);
        streamed(reply).await;
        assert!(tapes.recv().unwrap().is_none());
        let failing = events(&[Event::Text("hi".into())]);
        let failing = failing.chain(stream::iter([Err(Error::new(Kind::Upstream, "it broke"))])).boxed();
        let (reply, tapes) = taped(Reply::begun(failing).await.unwrap(), 10_000);
        assert!(reply.chat().await.is_err() && tapes.recv().unwrap().is_none());
    }

    #[tokio::test]
    async fn nobody_is_told_of_a_reply_that_was_left() {
        let frames = events(&[Event::Text("hi".into()), Event::Finish(FinishReason::Stop), Event::Text("more".into())]);
        let (reply, tapes) = taped(Reply::begun(frames).await.unwrap(), 10_000);
        let mut frames = reply.events();
        frames.next().await.unwrap().unwrap();
        frames.next().await.unwrap().unwrap(); // the finish; the cost would follow
        drop(frames);
        assert!(tapes.recv().is_err());
    }
}
