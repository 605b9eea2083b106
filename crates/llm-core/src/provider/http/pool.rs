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
        let mut old = Vec::new(); // closed when nobody waits for the lock any more
        let mut idle = self.lock();
        // The youngest is asked first, so that after a rush the others would stay open as long as there is one to ask; and
        // a runtime that is asked nothing would never look.
        idle.iter_mut().for_each(|(_, conns)| take_old(conns, conn.since, &mut old));
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

    /// How many wait.
    #[cfg(test)]
    fn len(&self) -> usize {
        self.lock().iter().map(|(_, conns)| conns.len()).sum()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(Id, Vec<Conn>)>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes out what has waited too long; it stands in front.
fn take_old(conns: &mut Vec<Conn>, now: Instant, old: &mut Vec<Conn>) {
    let is_old = |conn: &Conn| now.duration_since(conn.since) >= MAX_IDLE;
    if conns.first().is_some_and(is_old) {
        let young = conns.partition_point(is_old);
        old.extend(conns.drain(..young));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn pool() -> (Pool, tokio::net::TcpListener) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (target, _) = Target::parse(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
        (Pool::new(target, Duration::from_secs(5)), listener)
    }

    /// So long ago that no host keeps it open.
    fn age(pool: &Pool) {
        pool.lock().iter_mut().flat_map(|(_, conns)| conns).for_each(|conn| conn.since -= MAX_IDLE);
    }

    #[tokio::test]
    async fn what_has_waited_too_long_is_closed_though_others_are_in_use() {
        let (pool, _listener) = pool().await;
        let busy = pool.checkout(true).await.unwrap().0;
        for conn in [pool.checkout(true).await.unwrap().0, pool.checkout(true).await.unwrap().0] {
            pool.put_back(conn);
        }
        assert_eq!(pool.len(), 2);
        age(&pool);
        pool.put_back(busy);
        assert_eq!(pool.len(), 1);
        let (busy, was_used) = pool.checkout(false).await.unwrap();
        assert!(was_used, "the young one stays");
        pool.put_back(busy);
    }

    #[tokio::test]
    async fn a_runtime_that_is_asked_nothing_keeps_nothing_open() {
        let (pool, _listener) = pool().await;
        let pool = std::sync::Arc::new(pool);
        let other = pool.clone();
        let quiet = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async { other.put_back(other.checkout(true).await.unwrap().0) });
            runtime
        });
        let quiet = quiet.join().unwrap();
        age(&pool);
        pool.put_back(pool.checkout(true).await.unwrap().0);
        assert_eq!(pool.len(), 1);
        quiet.shutdown_background(); // it may not be dropped inside another
    }
}
