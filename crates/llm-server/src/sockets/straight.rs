//! Questions for models answered straight on the socket: read, asked and written in one future, with no channel and no
//! task between, which is worth a fifth of what a forwarded question costs. Only what is plain is answered so; whatever
//! is rare or for another route goes to hyper, with all that was read, and its connection stays there; what is no request is
//! refused.
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use futures_core::Stream;
use llm_core::Error;
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep_until};

use super::answer;
use super::head::Head;
use crate::api::App;
use crate::ask::{self, Answer, Payload, slow_body};
use crate::line::Line;
use crate::proxies::IsTrusted;

/// Read at once at least.
const FEW: usize = 4 << 10;
/// Room for the next request of a client is as much as its last one took, but no more than this.
const MUCH: usize = 64 << 10;
/// What a client sends before it has its answer is read so far; behind that, its leaving is not noticed.
const AHEAD: usize = 16 << 10;
/// Whoever was refused may go on talking for so long.
const LINGERS: Duration = Duration::from_secs(1);
/// Written at once.
const GATHERED: usize = 64 << 10;

/// How a connection ended here.
pub(super) enum Ended {
    /// It is over.
    Closed,
    /// It goes on elsewhere; so much was read.
    Elsewhere(TcpStream, BytesMut),
}

/// How long a client may take.
#[derive(Clone, Copy)]
pub(super) struct Patience {
    pub(super) head: Duration,
    pub(super) body: Duration,
    pub(super) write: Duration,
}

/// A connection with what was read of it and what is to be written.
pub(super) struct Straight<'a> {
    app: &'a App,
    peer: IsTrusted,
    stream: TcpStream,
    read: BytesMut,
    expects: usize,
    out: BytesMut,
    rest: Bytes, // goes out behind it, uncopied
    clock: Clock,
    patience: Patience,
}

impl<'a> Straight<'a> {
    pub(super) fn new(stream: TcpStream, app: &'a App, peer: IsTrusted, patience: Patience) -> Straight<'a> {
        let (read, out, rest) = Default::default();
        Straight { app, peer, stream, read, expects: FEW, out, rest, clock: Clock::default(), patience }
    }

    /// Answers until the client leaves, asks something else, or `stopping` is done.
    pub(super) async fn run(mut self, stopping: impl Future<Output = ()>) -> Ended {
        let (mut stopping, mut is_stopping) = (pin!(stopping), false);
        loop {
            let (question, length) = match self.question(stopping.as_mut()).await {
                Some(Head::Plain(question, head, body)) => {
                    self.read.advance(head);
                    (question, body)
                }
                Some(Head::Broken(error)) => {
                    self.refuse(&error).await;
                    return Ended::Closed;
                }
                Some(_) => return Ended::Elsewhere(self.stream, self.read),
                None => return Ended::Closed,
            };
            let Ok(body) = self.body(length).await else { return Ended::Closed };
            is_stopping |= body.is_none() || poll_fn(|cx| Poll::Ready(stopping.as_mut().poll(cx).is_ready())).await;
            let app = self.app;
            let answered = pin!(question.answered(app, body.ok_or_else(slow_body)));
            let Some(answer) = self.unless_gone(answered).await else { return Ended::Closed };
            if self.send(answer, is_stopping).await.is_err() || is_stopping {
                return Ended::Closed;
            }
        }
    }

    /// Says what is wrong with something that is no request, and reads on a little: a connection that is closed on unread
    /// words is reset, and the client might not see the answer.
    async fn refuse(&mut self, error: &Error) {
        let answer = ask::refused(self.app, error);
        if self.send(answer, true).await.is_err() || self.stream.shutdown().await.is_err() {
            return;
        }
        let (due, mut read) = (Instant::now() + LINGERS, 0);
        self.clock.alarm = None; // it may be set to later
        poll_fn(|cx| {
            while read < 16 * MUCH {
                self.read.clear();
                match self.poll_fill(cx) {
                    Poll::Ready(Ok(some @ 1..)) => read += some,
                    Poll::Ready(_) => return Poll::Ready(()),
                    Poll::Pending if self.clock.rings(due, cx) => return Poll::Ready(()),
                    Poll::Pending => return Poll::Pending,
                }
            }
            Poll::Ready(())
        })
        .await;
    }

    /// The next head, once all of it is there; `None` if there will be none.
    async fn question(&mut self, mut stopping: Pin<&mut impl Future<Output = ()>>) -> Option<Head> {
        let mut due = None;
        poll_fn(|cx| {
            loop {
                if !self.read.is_empty() {
                    match Head::read(&self.read, self.app, self.peer) {
                        Head::Partial => {}
                        head => return Poll::Ready(Some(head)),
                    }
                }
                match self.poll_fill(cx) {
                    Poll::Ready(Ok(1..)) => {}
                    Poll::Ready(_) => return Poll::Ready(None),
                    Poll::Pending => break,
                }
            }
            let due = *due.get_or_insert_with(|| Instant::now() + self.patience.head);
            let is_over = self.read.is_empty() && stopping.as_mut().poll(cx).is_ready();
            if is_over || self.clock.rings(due, cx) { Poll::Ready(None) } else { Poll::Pending }
        })
        .await
    }

    /// A body of this length; `None` if it does not come in time.
    async fn body(&mut self, length: usize) -> io::Result<Option<Bytes>> {
        let mut due = None;
        let is_here = poll_fn(|cx| -> Poll<io::Result<bool>> {
            while self.read.len() < length {
                self.expects = self.expects.max((length - self.read.len()).min(MUCH));
                match self.poll_fill(cx) {
                    Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
                    Poll::Ready(read) => drop(read?),
                    Poll::Pending => {
                        let due = *due.get_or_insert_with(|| Instant::now() + self.patience.body);
                        return if self.clock.rings(due, cx) { Poll::Ready(Ok(false)) } else { Poll::Pending };
                    }
                }
            }
            Poll::Ready(Ok(true))
        });
        if !is_here.await? {
            return Ok(None);
        }
        self.expects = (length + FEW / 2).clamp(FEW, MUCH); // and the head
        Ok(Some(self.read.split_to(length).freeze()))
    }

    /// Waits for the answer, unless the client leaves: then nobody wants it.
    async fn unless_gone(&mut self, mut answered: Pin<&mut impl Future<Output = Answer>>) -> Option<Answer> {
        poll_fn(|cx| match answered.as_mut().poll(cx) {
            Poll::Ready(answer) => Poll::Ready(Some(answer)),
            Poll::Pending if self.is_gone(cx) => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        })
        .await
    }

    async fn send(&mut self, answer: Answer, closes: bool) -> io::Result<()> {
        answer::head(&answer, closes, &mut self.out);
        match answer.body {
            Payload::Whole(bytes) if bytes.len() <= FEW => self.out.extend_from_slice(&bytes),
            Payload::Whole(bytes) => self.rest = bytes,
            Payload::Stream(stream) => return self.send_stream(stream).await,
        }
        poll_fn(|cx| self.poll_flush(cx)).await
    }

    /// Pieces go out as they come, all that are ready in one write; while a client does not read, none are asked for.
    async fn send_stream(&mut self, stream: Line) -> io::Result<()> {
        let (mut stream, mut is_over) = (pin!(stream), false);
        poll_fn(|cx| {
            loop {
                while !is_over && self.out.len() < GATHERED {
                    match stream.as_mut().poll_next(cx) {
                        Poll::Ready(Some(piece)) => answer::chunk(&piece, &mut self.out),
                        Poll::Ready(None) => {
                            answer::last_chunk(&mut self.out);
                            is_over = true;
                        }
                        Poll::Pending => break,
                    }
                }
                let has_more = self.out.len() >= GATHERED;
                match self.poll_flush(cx)? {
                    Poll::Ready(()) if is_over => return Poll::Ready(Ok(())),
                    Poll::Ready(()) if has_more => {}
                    _ if self.is_gone(cx) => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
                    _ => return Poll::Pending,
                }
            }
        })
        .await
    }

    /// Writes all there is to write; a client that takes nothing for too long is given up.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.out.has_remaining() || self.rest.has_remaining() {
            let parts = [IoSlice::new(&self.out), IoSlice::new(&self.rest)];
            let stream = Pin::new(&mut self.stream);
            let written = match &self.rest[..] {
                [] => stream.poll_write(cx, &self.out),
                _ => stream.poll_write_vectored(cx, &parts),
            };
            let Poll::Ready(written) = written else {
                let due = self.clock.stalled.get_or_insert_with(Instant::now).to_owned() + self.patience.write;
                return if self.clock.rings(due, cx) {
                    Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
                } else {
                    Poll::Pending
                };
            };
            self.clock.stalled = None;
            let written = written?;
            let of_out = written.min(self.out.len());
            self.out.advance(of_out);
            self.rest.advance(written - of_out);
        }
        self.rest = Bytes::new();
        if self.out.capacity() > 2 * GATHERED {
            self.out = BytesMut::new();
        }
        Poll::Ready(Ok(()))
    }

    /// Whether the client has closed its end. What it sends meanwhile is kept for later.
    fn is_gone(&mut self, cx: &mut Context<'_>) -> bool {
        while self.read.len() < AHEAD {
            // Nothing is read, and no room made, where nothing has come.
            if self.stream.poll_read_ready(cx).is_pending() {
                return false;
            }
            match self.poll_fill(cx) {
                Poll::Pending => return false,
                Poll::Ready(Ok(1..)) => {}
                Poll::Ready(_) => return true,
            }
        }
        false
    }

    /// Reads some more; 0 at the end.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.read.capacity() - self.read.len() < FEW / 4 {
            self.read.reserve(self.expects);
        }
        let read = ready!(pin!(self.stream.read_buf(&mut self.read)).poll(cx))?;
        Poll::Ready(Ok(read))
    }
}

/// One alarm for all of a connection's deadlines, set when it waits and looked at when it rings.
#[derive(Default)]
struct Clock {
    alarm: Option<Pin<Box<Sleep>>>,
    stalled: Option<Instant>,
}

/// Whatever is due later is looked at so often.
const LOOKS: Duration = Duration::from_secs(5);

impl Clock {
    /// Whether this moment has come; wakes the task when it does.
    fn rings(&mut self, due: Instant, cx: &mut Context<'_>) -> bool {
        let next = || due.min(Instant::now() + LOOKS);
        let alarm = self.alarm.get_or_insert_with(|| Box::pin(sleep_until(next())));
        while alarm.as_mut().poll(cx).is_ready() {
            if due <= Instant::now() {
                return true;
            }
            alarm.as_mut().reset(next());
        }
        false
    }
}
