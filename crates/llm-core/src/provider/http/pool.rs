//! Connections that wait for their next request, apart for each runtime: a socket belongs to the runtime it was opened on.
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::Full;
use hyper::client::conn::http1::{self, Connection, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::runtime::{Handle, Id};

use super::connect::{Stream, Target};
use crate::error::{Error, Kind, Result};

/// uvicorn, which serves vLLM, closes connections after five idle seconds.
const MAX_IDLE: Duration = Duration::from_secs(4);
/// So many connections of one runtime wait at most; the rest are closed after use.
const MOST_IDLE: usize = 1024;

/// A connection and its driver, which whoever uses it polls.
pub(super) struct Conn {
    pub(super) sender: SendRequest<Full<Bytes>>,
    pub(super) driver: Connection<TokioIo<Stream>, Full<Bytes>>,
    since: Instant,
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
            let is_open = poll_fn(|cx| Poll::Ready(Pin::new(&mut conn.driver).poll(cx).is_pending())).await;
            if is_open && conn.sender.is_ready() {
                return Ok((conn, true));
            }
        }
        Ok((self.open().await?, false))
    }

    async fn open(&self) -> Result<Conn> {
        let late = |_| Error::new(Kind::Unavailable, "the upstream did not accept a connection in time");
        let stream = tokio::time::timeout(self.connect_timeout, self.target.connect()).await.map_err(late)??;
        let failed = |e| Error::new(Kind::Unavailable, "the upstream's connection failed at once").because(e);
        // One write of head and body together costs less than a gathering one.
        let shaken = http1::Builder::new().writev(false).handshake(TokioIo::new(stream)).await;
        let (sender, driver) = shaken.map_err(failed)?;
        Ok(Conn { sender, driver, since: Instant::now() })
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
