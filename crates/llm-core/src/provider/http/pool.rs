//! Connections that wait for their next request, apart for each runtime: a socket belongs to the runtime it was opened on.
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWrite};
use tokio::runtime::{Handle, Id};

use super::connect::{Stream, Target};
use super::head::Request;
use crate::error::{Error, Kind, Result};

/// uvicorn, which serves vLLM, closes connections after five idle seconds.
const MAX_IDLE: Duration = Duration::from_secs(4);
/// So many connections of one runtime wait at most; the rest are closed after use.
const MOST_IDLE: usize = 1024;

/// So many bytes are read at once: the first number to begin with, the second when there is always more.
const READ: usize = 8 << 10;
const MOST_READ: usize = 64 << 10;

/// A connection, and what has been read of its answer.
pub(super) struct Conn {
    stream: Stream,
    pub(super) buffer: BytesMut,
    reads: usize,
    since: Instant,
}

impl Conn {
    /// Nothing of an answer has come.
    pub(super) fn is_untouched(&self) -> bool {
        self.buffer.is_empty()
    }

    /// Reads some more; 0 at the end.
    pub(super) fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.buffer.capacity() - self.buffer.len() < self.reads / 2 {
            self.buffer.reserve(self.reads);
        }
        let room = self.buffer.capacity() - self.buffer.len();
        let read = ready!(pin!(self.stream.read_buf(&mut self.buffer)).poll(cx))?;
        if read == room {
            self.reads = (self.reads * 2).min(MOST_READ);
        }
        Poll::Ready(Ok(read))
    }

    /// Writes what was not sent yet.
    pub(super) fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        request: &Request,
        sent: &mut usize,
    ) -> Poll<io::Result<()>> {
        let (head, body) = (&request.head[..], &request.body[..]);
        while *sent < head.len() + body.len() {
            let stream = Pin::new(&mut self.stream);
            let written = match head.get(*sent..).filter(|rest| !rest.is_empty()) {
                Some(rest) if body.is_empty() => stream.poll_write(cx, rest),
                Some(rest) => stream.poll_write_vectored(cx, &[IoSlice::new(rest), IoSlice::new(body)]),
                None => stream.poll_write(cx, &body[*sent - head.len()..]),
            };
            match ready!(written)? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => *sent += written,
            }
        }
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    /// Whether it can be asked again: nothing has come since, neither bytes nor the end.
    async fn is_open(&mut self) -> bool {
        poll_fn(|cx| Poll::Ready(self.poll_fill(cx).is_pending())).await
    }
}

/// The connections to one host.
pub(super) struct Pool {
    target: Target,
    connect_timeout: Duration,
    idle: Mutex<Vec<(Id, Vec<Conn>)>>,
}

impl Pool {
    pub(super) fn new(target: Target, connect_timeout: Duration) -> Pool {
        Pool { target, connect_timeout, idle: Mutex::default() }
    }

    /// A connection, and whether it was used before.
    pub(super) async fn checkout(&self, fresh: bool) -> Result<(Conn, bool)> {
        while !fresh && let Some(mut conn) = self.pop() {
            // Notices a connection that the host has closed meanwhile.
            if conn.is_open().await {
                return Ok((conn, true));
            }
        }
        Ok((self.open().await?, false))
    }

    async fn open(&self) -> Result<Conn> {
        let late = |_| Error::new(Kind::Unavailable, "the upstream did not accept a connection in time");
        let stream = tokio::time::timeout(self.connect_timeout, self.target.connect()).await.map_err(late)??;
        Ok(Conn { stream, buffer: BytesMut::new(), reads: READ, since: Instant::now() })
    }

    fn pop(&self) -> Option<Conn> {
        let runtime = Handle::current().id();
        let mut idle = self.lock();
        let (_, mine) = idle.iter_mut().find(|(id, _)| *id == runtime)?;
        let conn = mine.pop()?; // the youngest, which the host closes last
        if conn.since.elapsed() < MAX_IDLE {
            return Some(conn);
        }
        mine.clear(); // all others are older
        None
    }

    pub(super) fn put_back(&self, mut conn: Conn) {
        conn.since = Instant::now();
        let runtime = Handle::current().id();
        let mut idle = self.lock();
        match idle.iter_mut().find(|(id, _)| *id == runtime) {
            Some((_, mine)) if mine.len() < MOST_IDLE => mine.push(conn),
            Some(_) => {}
            None => {
                // A runtime that has gone leaves nothing but old connections.
                idle.retain(|(_, conns)| conns.last().is_some_and(|c| c.since.elapsed() < MAX_IDLE));
                idle.push((runtime, vec![conn]));
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(Id, Vec<Conn>)>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
