//! A request whose connection is polled in its own future, and a body that polls it on.
use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};

use super::head::{Framing, Head, Request};
use super::pool::{Conn, Pool};
use crate::error::{Error, Kind, Result};

/// What is ready is passed on together, up to this many bytes; it never waits for more.
const MOST_AT_ONCE: usize = 64 << 10;

/// Sends a request. A connection that was used before and turns out to be dead gets one silent retry on a new one.
pub(super) async fn send(pool: &Arc<Pool>, request: Request) -> Result<(Head, Inline)> {
    let mut fresh = false;
    loop {
        let (mut conn, was_used) = pool.checkout(fresh).await?;
        match exchange(&mut conn, &request).await {
            Ok(mut head) => {
                let framing = std::mem::replace(&mut head.framing, Framing::UntilClose);
                let body = Inline { framing, keeps: head.keeps, conn: Some(conn), pool: pool.clone(), end: None };
                return Ok((head, body));
            }
            Err(error) if was_used && conn.is_untouched() && is_stale(&error) => fresh = true,
            Err(error) => return Err(broken(error)),
        }
    }
}

/// Writes and listens at once: a host may refuse a long body before it has read it.
async fn exchange(conn: &mut Conn, request: &Request) -> io::Result<Head> {
    let (mut sent, mut failure) = (0, None);
    poll_fn(|cx| {
        if failure.is_none()
            && let Poll::Ready(Err(error)) = conn.poll_send(cx, request, &mut sent)
        {
            failure = Some(error); // it may have said why
        }
        match conn.poll_head(cx) {
            Poll::Ready(Ok(mut head)) => {
                head.keeps &= sent == request.head.len() + request.body.len();
                Poll::Ready(Ok(head))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(failure.take().unwrap_or(error))),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

/// The host closed the connection before it answered anything: it was idle for too long.
fn is_stale(error: &io::Error) -> bool {
    use io::ErrorKind::*;
    matches!(error.kind(), ConnectionReset | BrokenPipe | ConnectionAborted | UnexpectedEof | NotConnected)
}

fn broken(error: io::Error) -> Error {
    let what = if error.kind() == io::ErrorKind::InvalidData {
        "the upstream does not speak HTTP as it should"
    } else {
        "the upstream closed the connection before it answered"
    };
    Error::new(Kind::Upstream, what).because(error)
}

/// A body whose connection is polled with it, and goes back to the pool at its end. Dropped early, it closes the
/// connection, and the upstream stops.
pub(super) struct Inline {
    framing: Framing,
    keeps: bool,
    conn: Option<Conn>, // until the end
    pool: Arc<Pool>,
    end: Option<io::Result<()>>, // met behind ready data, which goes first
}

impl Inline {
    /// The next chunk: all that is ready, in one piece.
    pub(super) fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes>>> {
        loop {
            if self.conn.is_none() {
                return Poll::Ready(None);
            }
            let is_pending = self.read(cx);
            let data = match self.decode() {
                Ok(data) => data,
                Err(error) => return Poll::Ready(Some(Err(self.break_off(error)))),
            };
            if !data.is_empty() {
                return Poll::Ready(Some(Ok(data)));
            }
            match self.end.take() {
                _ if self.conn.is_none() => return Poll::Ready(None),
                Some(Ok(())) if matches!(self.framing, Framing::UntilClose) => self.conn = None,
                Some(Ok(())) => return Poll::Ready(Some(Err(self.break_off(io::ErrorKind::UnexpectedEof.into())))),
                Some(Err(error)) => return Poll::Ready(Some(Err(self.break_off(error)))),
                None if is_pending => return Poll::Pending,
                None => {}
            }
        }
    }

    /// Reads what is ready; whether there is no more of it now.
    fn read(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(conn) = &mut self.conn else { return false };
        if matches!(self.framing, Framing::Length(left) if conn.buffer.len() >= left) {
            return false;
        }
        while self.end.is_none() && conn.buffer.len() < MOST_AT_ONCE {
            match conn.poll_fill(cx) {
                Poll::Pending => return true,
                Poll::Ready(Ok(0)) => self.end = Some(Ok(())),
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(error)) => self.end = Some(Err(error)),
            }
        }
        false
    }

    fn decode(&mut self) -> io::Result<Bytes> {
        let Some(conn) = &mut self.conn else { return Ok(Bytes::new()) };
        let (data, is_at_end) = match &mut self.framing {
            Framing::Length(left) => {
                let data = conn.buffer.split_to(conn.buffer.len().min(*left)).freeze();
                *left -= data.len();
                (data, *left == 0)
            }
            Framing::Chunked(chunks) => (chunks.decode(&mut conn.buffer)?, chunks.is_at_end()),
            Framing::UntilClose => (conn.buffer.split().freeze(), false),
        };
        if is_at_end {
            self.recycle();
        }
        Ok(data)
    }

    fn recycle(&mut self) {
        // Bytes behind the end belong to no request of ours.
        if let Some(conn) = self.conn.take().filter(|conn| self.keeps && self.end.is_none() && conn.buffer.is_empty()) {
            self.pool.put_back(conn);
        }
    }

    fn break_off(&mut self, error: io::Error) -> Error {
        self.conn = None;
        crate::call::truncated().because(error)
    }

    /// Whether nobody told how long it is, so that one that breaks off looks like one that ended.
    pub(super) fn is_open_ended(&self) -> bool {
        matches!(self.framing, Framing::UntilClose)
    }

    /// The whole body.
    ///
    /// # Errors
    /// `Upstream` if it breaks off, or is longer than this.
    pub(super) async fn collect(mut self, most: usize) -> Result<Bytes> {
        let longer = || Error::new(Kind::Upstream, format!("the upstream's answer is longer than {most} bytes"));
        if matches!(self.framing, Framing::Length(length) if length > most) {
            return Err(longer());
        }
        let Some(first) = poll_fn(|cx| self.poll_chunk(cx)).await.transpose()? else { return Ok(Bytes::new()) };
        let mut all = BytesMut::new();
        while let Some(next) = poll_fn(|cx| self.poll_chunk(cx)).await.transpose()? {
            if all.is_empty() {
                all.extend_from_slice(&first);
            }
            all.extend_from_slice(&next);
            if all.len() > most {
                return Err(longer());
            }
        }
        Ok(if all.is_empty() { first } else { all.freeze() })
    }
}

impl Conn {
    fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Head>> {
        loop {
            if !self.buffer.is_empty()
                && let Some((head, length)) = Head::parse(&self.buffer)?
            {
                let _ = self.buffer.split_to(length);
                if !head.is_provisional() {
                    return Poll::Ready(Ok(head));
                }
            } else if ready!(self.poll_fill(cx))? == 0 {
                return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
            }
        }
    }
}
