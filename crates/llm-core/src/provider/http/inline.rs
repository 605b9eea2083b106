//! A request whose connection is polled in its own future, and a body that polls it on.
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use http::{Request, Response};
use http_body::Body;
use http_body_util::Full;
use hyper::body::Incoming;

use super::pool::{Conn, Pool};
use crate::error::{Error, Kind, Result};

/// Ready chunks are put together up to this many bytes; it never waits for more.
const MOST_AT_ONCE: usize = 64 << 10;

/// Sends a request. A connection that was used before and turns out to be dead gets one silent retry on a new one.
pub(super) async fn send(pool: &Arc<Pool>, request: Request<Full<Bytes>>) -> Result<Response<Inline>> {
    let mut fresh = false;
    loop {
        let (mut conn, was_used) = pool.checkout(fresh).await?;
        match exchange(&mut conn, request.clone()).await {
            Ok(response) => return Ok(response.map(|body| Inline::new(body, conn, pool))),
            Err(error) if was_used && is_stale(&error) => fresh = true,
            Err(error) => return Err(broken(error)),
        }
    }
}

async fn exchange(conn: &mut Conn, request: Request<Full<Bytes>>) -> hyper::Result<Response<Incoming>> {
    let mut answer = pin!(conn.sender.send_request(request));
    let driver = &mut conn.driver;
    poll_fn(|cx| {
        if let Poll::Ready(answer) = answer.as_mut().poll(cx) {
            return Poll::Ready(answer);
        }
        // Its errors reach the answer too.
        let _ = Pin::new(&mut *driver).poll(cx);
        answer.as_mut().poll(cx)
    })
    .await
}

/// The host closed the connection before it answered anything: it was idle for too long.
fn is_stale(error: &hyper::Error) -> bool {
    error.is_canceled() || error.is_incomplete_message() || error.is_closed() || is_reset(error)
}

fn is_reset(error: &hyper::Error) -> bool {
    let cause = std::error::Error::source(error).and_then(|s| s.downcast_ref::<std::io::Error>());
    use std::io::ErrorKind::*;
    cause.is_some_and(|e| matches!(e.kind(), ConnectionReset | BrokenPipe | ConnectionAborted))
}

fn broken(error: hyper::Error) -> Error {
    let what = if error.is_parse() {
        "the upstream does not speak HTTP as it should"
    } else {
        "the upstream closed the connection before it answered"
    };
    Error::new(Kind::Upstream, what).because(error)
}

/// A body whose connection is polled with it, and goes back to the pool at its end. Dropped early, it closes the
/// connection, and the upstream stops.
pub(super) struct Inline {
    incoming: Incoming,
    conn: Option<Conn>,
    pool: Arc<Pool>,
    error: Option<hyper::Error>, // met behind ready data, which goes first
}

impl Inline {
    fn new(incoming: Incoming, conn: Conn, pool: &Arc<Pool>) -> Inline {
        Inline { incoming, conn: Some(conn), pool: pool.clone(), error: None }
    }

    /// The next chunk: all that is ready, in one piece.
    pub(super) fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes>>> {
        if let Some(error) = self.error.take() {
            return Poll::Ready(Some(Err(broken_off(error))));
        }
        let first = match std::task::ready!(self.poll_one(cx)) {
            Some(Ok(first)) => first,
            Some(Err(error)) => return Poll::Ready(Some(Err(broken_off(error)))),
            None => return Poll::Ready(None),
        };
        Poll::Ready(Some(Ok(self.more(first, cx))))
    }

    fn more(&mut self, first: Bytes, cx: &mut Context<'_>) -> Bytes {
        let mut joined = BytesMut::new();
        while joined.len().max(first.len()) < MOST_AT_ONCE {
            match self.poll_one(cx) {
                Poll::Ready(Some(Ok(next))) => {
                    if joined.is_empty() {
                        joined.reserve(MOST_AT_ONCE / 4);
                        joined.extend_from_slice(&first);
                    }
                    joined.extend_from_slice(&next);
                }
                Poll::Ready(Some(Err(error))) => {
                    self.error = Some(error);
                    break;
                }
                Poll::Ready(None) | Poll::Pending => break,
            }
        }
        if joined.is_empty() { first } else { joined.freeze() }
    }

    fn poll_one(&mut self, cx: &mut Context<'_>) -> Poll<Option<hyper::Result<Bytes>>> {
        loop {
            let mut frame = Pin::new(&mut self.incoming).poll_frame(cx);
            if frame.is_pending()
                && let Some(conn) = &mut self.conn
            {
                if Pin::new(&mut conn.driver).poll(cx).is_ready() {
                    self.conn = None;
                }
                frame = Pin::new(&mut self.incoming).poll_frame(cx);
            }
            match std::task::ready!(frame) {
                None => {
                    self.recycle(cx);
                    return Poll::Ready(None);
                }
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                Some(Ok(frame)) => {
                    if self.incoming.is_end_stream() {
                        self.recycle(cx);
                    }
                    if let Ok(data) = frame.into_data() {
                        return Poll::Ready(Some(Ok(data)));
                    } // else trailers, which mean nothing here
                }
            }
        }
    }

    fn recycle(&mut self, cx: &mut Context<'_>) {
        if let Some(mut conn) = self.conn.take()
            && Pin::new(&mut conn.driver).poll(cx).is_pending()
            && conn.sender.is_ready()
        {
            self.pool.put_back(conn);
        }
    }

    /// The whole body.
    ///
    /// # Errors
    /// `Upstream` if it breaks off, or is longer than this.
    pub(super) async fn collect(mut self, most: usize) -> Result<Bytes> {
        let Some(first) = poll_fn(|cx| self.poll_chunk(cx)).await.transpose()? else { return Ok(Bytes::new()) };
        let mut all = BytesMut::new();
        while let Some(next) = poll_fn(|cx| self.poll_chunk(cx)).await.transpose()? {
            if all.is_empty() {
                all.extend_from_slice(&first);
            }
            all.extend_from_slice(&next);
            if all.len() > most {
                return Err(Error::new(Kind::Upstream, format!("the upstream's answer is longer than {most} bytes")));
            }
        }
        Ok(if all.is_empty() { first } else { all.freeze() })
    }
}

fn broken_off(error: hyper::Error) -> Error {
    crate::call::truncated().because(error)
}
