//! A provider as a server that speaks OpenAI's dialect, well-behaved: the other end for tests of clients.
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
use crate::dialect;
use crate::error::{Error, Kind, Result};

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

impl Served {
    /// Starts on the runtime of the caller.
    ///
    /// # Panics
    /// If there is no free port.
    pub async fn start(provider: Arc<dyn Provider>) -> Served {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        Served { address, accepting: tokio::spawn(accept(listener, provider)) }
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

async fn accept(listener: TcpListener, provider: Arc<dyn Provider>) {
    let mut running = JoinSet::new(); // they end with it
    while let Ok((stream, _)) = listener.accept().await {
        while running.try_join_next().is_some() {}
        running.spawn(converse(stream, provider.clone()));
    }
}

async fn converse(mut stream: TcpStream, provider: Arc<dyn Provider>) {
    let _ = stream.set_nodelay(true);
    let (mut from, mut to) = stream.split();
    while let Some(request) = next(&mut from).await {
        let answered = pin!(respond(&*provider, &request, &mut to));
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
async fn respond(provider: &dyn Provider, request: &[u8], to: &mut WriteHalf<'_>) -> bool {
    match ask(provider, request).await {
        Ok((call, reply)) if call.delivery == Delivery::Stream => {
            streams(reply.stream(dialect::openai(), &call), to).await
        }
        Ok((call, reply)) => match reply.whole(dialect::openai(), &call).await {
            Ok(bytes) => says("200 OK", "", &bytes, to).await,
            Err(error) => refuses(&error, to).await,
        },
        Err(error) => refuses(&error, to).await,
    }
}

async fn ask(provider: &dyn Provider, request: &[u8]) -> Result<(Call, Reply)> {
    let call = read(request)?;
    let reply = provider.call(&call).await?;
    Ok((call, reply))
}

fn read(request: &[u8]) -> Result<Call> {
    let head = memchr::memmem::find(request, b"\r\n\r\n").map_or(request.len(), |at| at + 4);
    let line = String::from_utf8_lossy(&request[..head]);
    let path = line.split(' ').nth(1).unwrap_or_default();
    let known = dialect::openai().paths().iter().find(|(_, known)| *known == path);
    match known {
        Some((Operation::Models, _)) => Ok(Call::new(Request::Models, Delivery::Whole)),
        Some((operation, _)) => Call::read(*operation, dialect::openai(), Bytes::copy_from_slice(&request[head..])),
        None => Err(Error::new(Kind::NotFound, "Not Found")),
    }
}

async fn streams(mut bodies: Bodies, to: &mut WriteHalf<'_>) -> bool {
    let mut is_well = to.write_all(events_in_chunks().as_bytes()).await.is_ok();
    while is_well && let Some(bytes) = bodies.next().await {
        is_well = to.write_all(chunk(&String::from_utf8_lossy(&bytes)).as_bytes()).await.is_ok();
    }
    is_well && to.write_all(chunk("").as_bytes()).await.is_ok()
}

async fn refuses(error: &Error, to: &mut WriteHalf<'_>) -> bool {
    let wait = error.get_retry_after().map(|wait| format!("retry-after: {}\r\n", wait.as_secs_f32().ceil()));
    says(status(error.kind()), &wait.unwrap_or_default(), &dialect::openai().error(error), to).await
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
