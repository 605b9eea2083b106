//! One keep-alive HTTP/1.1 connection, by hand: a client library would cost more than the server it measures.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// No answer that a test waits for takes longer.
const PATIENCE: Duration = Duration::from_secs(60);
/// The largest answer that is believed.
const LIMIT: usize = 64 << 20;

/// What a test wants to know of an answer's head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// The status code.
    pub status: u16,
    /// `Retry-After` in seconds, if it has one.
    pub retry_after: Option<u64>,
    framing: Framing,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Framing {
    Length(usize),
    Chunked,
}

/// A connection and what it has read too much.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
    at: usize,
}

impl Connection {
    /// Connects, without Nagle's delay.
    pub async fn open(address: SocketAddr) -> Result<Connection> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Connection { stream, buffer: Vec::new(), at: 0 })
    }

    /// Sends a request and reads the whole answer into `body`.
    pub async fn ask(&mut self, request: &[u8], body: &mut Vec<u8>) -> Result<Head> {
        tokio::time::timeout(PATIENCE, self.exchange(request, body)).await.context("no answer in time")?
    }

    async fn exchange(&mut self, request: &[u8], body: &mut Vec<u8>) -> Result<Head> {
        self.send(request).await?;
        let head = self.head().await?;
        self.body(head, body).await?;
        Ok(head)
    }

    /// Sends bytes as they are.
    pub async fn send(&mut self, request: &[u8]) -> Result<()> {
        self.stream.write_all(request).await.context("sending")
    }

    /// Reads the head of the next answer.
    pub async fn head(&mut self) -> Result<Head> {
        loop {
            if let Some((head, length)) = parse(&self.buffer[self.at..])? {
                self.at += length;
                return Ok(head);
            }
            self.fill().await?;
        }
    }

    /// Reads the body that the head announced, chunks joined.
    pub async fn body(&mut self, head: Head, body: &mut Vec<u8>) -> Result<()> {
        body.clear();
        match head.framing {
            Framing::Length(length) => self.take(length, body).await,
            Framing::Chunked => {
                while self.chunk(body).await? {}
                Ok(())
            }
        }
    }

    /// Appends the next chunk of a chunked body; `false` after the last.
    pub async fn chunk(&mut self, body: &mut Vec<u8>) -> Result<bool> {
        let line = self.line().await?;
        let size = std::str::from_utf8(&self.buffer[line.clone()])?.split(';').next().unwrap_or_default();
        let size = usize::from_str_radix(size.trim(), 16).with_context(|| format!("not a chunk's size: {size:?}"))?;
        self.at = line.end + 2;
        self.take(size, body).await?;
        let line = self.line().await?;
        ensure!(line.is_empty(), "a chunk longer than its size, or trailers");
        self.at = line.end + 2;
        Ok(size > 0)
    }

    async fn line(&mut self) -> Result<std::ops::Range<usize>> {
        loop {
            if let Some(length) = memchr::memmem::find(&self.buffer[self.at..], b"\r\n") {
                return Ok(self.at..self.at + length);
            }
            self.fill().await?;
        }
    }

    async fn take(&mut self, length: usize, body: &mut Vec<u8>) -> Result<()> {
        ensure!(body.len() + length <= LIMIT, "an answer of more than {LIMIT} bytes");
        while self.buffer.len() - self.at < length {
            self.fill().await?;
        }
        body.extend_from_slice(&self.buffer[self.at..self.at + length]);
        self.at += length;
        Ok(())
    }

    /// Reads more, after dropping what has been taken.
    async fn fill(&mut self) -> Result<()> {
        self.buffer.drain(..self.at);
        self.at = 0;
        self.buffer.reserve(64 << 10);
        let read = self.stream.read_buf(&mut self.buffer).await.context("reading")?;
        ensure!(read > 0, "the server closed the connection");
        Ok(())
    }
}

/// The head and its length, once it is there.
fn parse(bytes: &[u8]) -> Result<Option<(Head, usize)>> {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut response = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(length) = response.parse(bytes)? else { return Ok(None) };
    let retry_after = value(response.headers, "retry-after").and_then(|value| std::str::from_utf8(value).ok());
    let head = Head {
        status: response.code.unwrap_or(0),
        retry_after: retry_after.and_then(|seconds| seconds.parse().ok()),
        framing: framing(response.headers)?,
    };
    Ok(Some((head, length)))
}

fn value<'a>(headers: &[httparse::Header<'a>], name: &str) -> Option<&'a [u8]> {
    headers.iter().find(|header| header.name.eq_ignore_ascii_case(name)).map(|header| header.value)
}

fn framing(headers: &[httparse::Header<'_>]) -> Result<Framing> {
    if value(headers, "transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case(b"chunked")) {
        return Ok(Framing::Chunked);
    }
    let Some(length) = value(headers, "content-length") else {
        bail!("an answer without a length keeps no connection alive")
    };
    let length = std::str::from_utf8(length)?.parse().map_err(|_| anyhow!("not a length: {length:?}"))?;
    Ok(Framing::Length(length))
}
