//! A stream that begins, or waits its turn: a client that has waited for a second, in line or for a model that loads, gets its
//! headers, and then its place as comments (an empty piece where its dialect has none), which every client reads over. A warning
//! or a refusal after that is told in the stream.
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures_core::Stream;
use futures_util::StreamExt;
use http_body::Frame;
use llm_core::dialect::{Dialect, Framing};
use llm_core::{Bodies, BoxFuture, Call, Error, Kind, Provider, Reply, Result};
use tokio::time::{Interval, MissedTickBehavior, interval, timeout};

use crate::api::App;
use crate::refusal;

/// Waits this long for a status line that says how it went.
const QUIET: Duration = Duration::from_secs(1);
/// A prompt that is read for so many seconds gets comments too: proxies close silent connections after a minute.
const LONGEST_QUIET: u32 = 10;

/// The body of a stream, once it has begun or stands in line.
pub(crate) async fn begin(app: &App, dialect: &'static dyn Dialect, call: &Call) -> Result<Line> {
    let line = |state| Line { state, dialect, is_over: app.is_over.clone() };
    let (gateway, asked) = (app.gateway.clone(), call.clone());
    let mut begun: BoxFuture<'static, Result<Reply>> = Box::pin(async move { gateway.call(&asked).await });
    for _ in 0..LONGEST_QUIET {
        if let Ok(reply) = timeout(QUIET, &mut begun).await {
            return Ok(line(State::Begun(reply?.stream(dialect, call))));
        }
        if waits_for(call) != Wait::Answer {
            break;
        }
    }
    let mut clock = interval(QUIET);
    clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
    Ok(line(State::Waiting(Box::new(Waiting {
        begun,
        call: call.clone(),
        dialect,
        clock,
        told: Wait::Answer,
        quiet_for: LONGEST_QUIET,
        warned: call.context.progress.borrow().warnings.len(),
    }))))
}

/// What is told instead of an answer for which a server that stops waits no longer.
pub(crate) fn stopped() -> Error {
    Error::new(Kind::Unavailable, "the server stops, and waits for this answer no longer").code("server_stopped")
}

/// What a call waits for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wait {
    /// Its turn, at this place.
    Turn(usize),
    Model,
    Answer,
}

fn waits_for(call: &Call) -> Wait {
    let progress = call.context.progress.borrow();
    match progress.place {
        Some(place) => Wait::Turn(place),
        None if progress.loads => Wait::Model,
        None => Wait::Answer,
    }
}

/// A response's body.
pub(crate) struct Line {
    state: State,
    dialect: &'static dyn Dialect,
    is_over: Arc<AtomicBool>, // the time that a server which stops gives its answers
}

enum State {
    Begun(Bodies),
    Waiting(Box<Waiting>),
    Ended,
}

struct Waiting {
    begun: BoxFuture<'static, Result<Reply>>,
    call: Call,
    dialect: &'static dyn Dialect,
    clock: Interval,
    told: Wait,
    quiet_for: u32,
    warned: usize, // so many warnings went out with the headers
}

impl Waiting {
    /// The place when it changes, and something at least every ten seconds.
    fn comment(&mut self) -> Option<Bytes> {
        let wait = waits_for(&self.call);
        self.quiet_for += 1;
        if wait == self.told && self.quiet_for < LONGEST_QUIET {
            return None;
        }
        (self.told, self.quiet_for) = (wait, 0);
        let eta = self.call.context.progress.borrow().eta.unwrap_or_default().as_secs();
        let words = match wait {
            Wait::Turn(place) => format!("queue position={place} eta={eta}s"),
            Wait::Model => "the model is being loaded".to_owned(),
            Wait::Answer => "working".to_owned(),
        };
        self.dialect.comment(&self.call, &words)
    }

    /// The warnings that came too late for a header, as comments where there are any.
    fn late_warnings(&self) -> Option<Bytes> {
        let progress = self.call.context.progress.borrow();
        let late = progress.warnings.get(self.warned..).unwrap_or_default();
        if late.is_empty() || self.dialect.framing() != Framing::Events {
            return None;
        }
        let on_a_line = |warning: &String| warning.replace(char::is_control, " ");
        let comment = |warning| self.dialect.comment(&self.call, &format!("warning {}", on_a_line(warning)));
        Some(late.iter().filter_map(comment).collect::<Vec<_>>().concat().into())
    }
}

impl Stream for Line {
    type Item = Bytes;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        let piece = self.state.poll_piece(cx);
        if self.is_over.load(Ordering::Relaxed) { self.break_off(piece) } else { piece }
    }
}

impl Line {
    /// Ends with a failure, unless it ends by itself just now.
    fn break_off(&mut self, piece: Poll<Option<Bytes>>) -> Poll<Option<Bytes>> {
        let last_word = self.dialect.last_word();
        let is_last = |piece: &Bytes| !last_word.is_empty() && piece.ends_with(&last_word);
        match piece {
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Ready(Some(piece)) if is_last(&piece) => Poll::Ready(Some(piece)),
            _ => {
                self.state = State::Ended;
                Poll::Ready(Some(self.dialect.failure(&stopped())))
            }
        }
    }
}

impl State {
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        loop {
            let waiting = match self {
                State::Begun(bodies) => return bodies.poll_next_unpin(cx),
                State::Ended => return Poll::Ready(None),
                State::Waiting(waiting) => waiting,
            };
            match waiting.begun.as_mut().poll(cx) {
                Poll::Ready(Ok(reply)) => {
                    let warnings = waiting.late_warnings();
                    *self = State::Begun(reply.stream(waiting.dialect, &waiting.call));
                    if warnings.is_some() {
                        return Poll::Ready(warnings);
                    }
                }
                Poll::Ready(Err(error)) => {
                    let failure = waiting.dialect.failure(&refusal::from_below(error));
                    *self = State::Ended;
                    return Poll::Ready(Some(failure));
                }
                Poll::Pending => {
                    ready!(waiting.clock.poll_tick(cx));
                    if let Some(comment) = waiting.comment() {
                        return Poll::Ready(Some(comment));
                    }
                }
            }
        }
    }
}

impl http_body::Body for Line {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<std::result::Result<Frame<Bytes>, Self::Error>>> {
        self.poll_next(cx).map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes))))
    }
}
