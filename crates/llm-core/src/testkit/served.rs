//! A provider as a server that speaks every dialect, well-behaved: the other end for tests of clients.
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::future::{Either, select};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

use super::wire::{self, answer, chunk, events_in_chunks};
use crate::call::*;
use crate::dialect::{self, DIALECTS, Dialect, Framing};
use crate::error::{Error, Kind, Result};
use crate::provider::http::Host;

/// A provider over HTTP on a free port of this machine; it stops, with all its connections, when it is dropped. A client that
/// leaves is noticed at once, and what the provider does for it is dropped.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> llm_core::Result<()> {
/// use std::sync::Arc;
/// use llm_core::testkit::Served;
/// use llm_core::{Config, Llm, provider::fake::Fake};
/// let server = Served::start(Arc::new(Fake::says("hello"))).await;
/// let llm = Llm::new(&Config::from_toml(&format!("[models.m]\nprovider = 'vllm'\nbase_url = '{}'", server.url()))?)?;
/// assert_eq!(llm.chat("?").await?.text, "hello");
/// # Ok(())
/// # }
/// ```
pub struct Served {
    address: SocketAddr,
    accepting: JoinHandle<()>,
}

/// A host's own dialects, each for an operation.
type Native = &'static [(Operation, &'static dyn Dialect)];

impl Served {
    /// Starts on the runtime of the caller.
    ///
    /// # Panics
    /// If there is no free port.
    pub async fn start(provider: Arc<dyn Provider>) -> Served {
        Served::speaking(&[], provider).await
    }

    /// The same, as this host: with its own shape where it has one for a path that others have too.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// use std::sync::Arc;
    /// use llm_core::{provider::{fake::Fake, hosts}, testkit::Served};
    /// let host = hosts::find("llama-server").unwrap();
    /// let server = Served::in_place_of(host, Arc::new(Fake::says("hello"))).await;
    /// assert!(server.url().starts_with("http://127.0.0.1:"));
    /// # }
    /// ```
    ///
    /// # Panics
    /// If there is no free port.
    pub async fn in_place_of(host: &Host, provider: Arc<dyn Provider>) -> Served {
        Served::speaking(host.native, provider).await
    }

    async fn speaking(native: Native, provider: Arc<dyn Provider>) -> Served {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        Served { address, accepting: tokio::spawn(accept(listener, native, provider)) }
    }

    /// Its address as a base URL, without a path.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, native: Native, provider: Arc<dyn Provider>) {
    let mut running = JoinSet::new(); // they end with it
    while let Ok((stream, _)) = listener.accept().await {
        while running.try_join_next().is_some() {}
        running.spawn(converse(stream, native, provider.clone()));
    }
}

async fn converse(mut stream: TcpStream, native: Native, provider: Arc<dyn Provider>) {
    let _ = stream.set_nodelay(true);
    let (mut from, mut to) = stream.split();
    while let Some(request) = next(&mut from).await {
        let answered = pin!(respond(native, &*provider, &request, &mut to));
        let left = pin!(leaves(&mut from));
        match select(answered, left).await {
            Either::Left((true, _)) => {}
            _ => return,
        }
    }
}

async fn next(from: &mut ReadHalf<'_>) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    while wire::length(&bytes).is_none() {
        if from.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
    Some(bytes)
}

/// Nothing comes while an answer is under way, but the end.
async fn leaves(from: &mut ReadHalf<'_>) {
    let _ = from.read(&mut [0]).await;
}

/// Whether the connection is still of use.
async fn respond(native: Native, provider: &dyn Provider, request: &[u8], to: &mut WriteHalf<'_>) -> bool {
    let head = memchr::memmem::find(request, b"\r\n\r\n").map_or(request.len(), |at| at + 4);
    let (head, body) = request.split_at(head);
    let line = String::from_utf8_lossy(head);
    let path = line.split(' ').nth(1).unwrap_or_default();
    let Some((operation, dialect)) = door(native, path) else {
        return refuses(dialect::openai(), &Error::new(Kind::NotFound, "Not Found"), to).await;
    };
    match ask(operation, dialect, provider, body).await {
        Ok((call, reply)) if call.delivery == Delivery::Stream => {
            streams(dialect.framing(), reply.stream(dialect, &call), to).await
        }
        Ok((call, reply)) => match reply.whole(dialect, &call).await {
            Ok(bytes) => says("200 OK", "", &bytes, to).await,
            Err(error) => refuses(dialect, &error, to).await,
        },
        Err(error) => refuses(dialect, &error, to).await,
    }
}

/// What is asked at this path, and in which dialect.
fn door(native: Native, path: &str) -> Option<(Operation, &'static dyn Dialect)> {
    let is_here = |dialect: &dyn Dialect, operation| dialect.paths().contains(&(operation, path));
    if let Some(&(operation, dialect)) = native.iter().find(|(operation, dialect)| is_here(*dialect, *operation)) {
        return Some((operation, dialect));
    }
    let doors = DIALECTS.iter().flat_map(|&dialect| dialect.doors().iter().map(move |door| (door, dialect)));
    doors.filter(|((_, known), _)| *known == path).map(|((operation, _), dialect)| (*operation, dialect)).next()
}

async fn ask(
    operation: Operation,
    dialect: &'static dyn Dialect,
    provider: &dyn Provider,
    body: &[u8],
) -> Result<(Call, Reply)> {
    let call = match operation {
        Operation::Models => Call::new(Request::Models, Delivery::Whole),
        operation => Call::read(operation, dialect, Bytes::copy_from_slice(body))?,
    };
    let reply = provider.call(&call).await?;
    Ok((call, reply))
}

async fn streams(framing: Framing, mut bodies: Bodies, to: &mut WriteHalf<'_>) -> bool {
    let head = events_in_chunks().replace(Framing::Events.content_type(), framing.content_type());
    let mut is_well = to.write_all(head.as_bytes()).await.is_ok();
    while is_well && let Some(bytes) = bodies.next().await {
        is_well = to.write_all(chunk(&String::from_utf8_lossy(&bytes)).as_bytes()).await.is_ok();
    }
    is_well && to.write_all(chunk("").as_bytes()).await.is_ok()
}

async fn refuses(dialect: &dyn Dialect, error: &Error, to: &mut WriteHalf<'_>) -> bool {
    let wait = error.get_retry_after().map(|wait| format!("retry-after: {}\r\n", wait.as_secs_f32().ceil()));
    says(status(error.kind()), &wait.unwrap_or_default(), &dialect.error(error), to).await
}

fn status(kind: Kind) -> &'static str {
    match kind {
        Kind::Invalid | Kind::ContextLength => "400 Bad Request",
        Kind::Unauthorized => "401 Unauthorized",
        Kind::NotFound => "404 Not Found",
        Kind::RateLimited => "429 Too Many Requests",
        Kind::Unsupported => "501 Not Implemented",
        Kind::Overloaded | Kind::Loading | Kind::Unavailable => "503 Service Unavailable",
        Kind::Timeout => "504 Gateway Timeout",
        _ => "500 Internal Server Error",
    }
}

async fn says(status: &str, headers: &str, body: &[u8], to: &mut WriteHalf<'_>) -> bool {
    let headers = ["content-type: application/json\r\n", headers].concat();
    to.write_all(&answer(status, &headers, &String::from_utf8_lossy(body))).await.is_ok()
}
