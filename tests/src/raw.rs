//! A server that sends exactly the bytes it is told to, however wrong they are.
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// What is done with a connection, step by step.
#[derive(Debug, Clone)]
pub enum Step {
    /// Reads one request, head and body.
    Read,
    /// Sends these bytes.
    Send(Vec<u8>),
    /// Waits.
    Pause(Duration),
    /// Ends with a reset instead of a close.
    Reset,
    /// Waits until the client has closed.
    UntilClosed,
}

/// A server with one list of steps for each connection, in order; the last list serves all further ones.
pub struct Raw {
    address: SocketAddr,
    requests: Arc<Mutex<Vec<String>>>,
    closed: Arc<tokio::sync::Notify>,
    accepting: JoinHandle<()>,
}

impl Raw {
    /// Starts on the runtime of the caller.
    pub async fn start(connections: Vec<Vec<Step>>) -> Raw {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let (requests, closed) = (Arc::<Mutex<Vec<String>>>::default(), Arc::<tokio::sync::Notify>::default());
        let (heard, gone) = (requests.clone(), closed.clone());
        let accepting = tokio::spawn(async move {
            let mut steps = connections
                .iter()
                .cycle()
                .take(connections.len())
                .chain(std::iter::repeat(connections.last().expect("steps")));
            while let (Ok((stream, _)), Some(steps)) = (listener.accept().await, steps.next()) {
                tokio::spawn(follow(stream, steps.clone(), heard.clone(), gone.clone()));
            }
        });
        Raw { address, requests, closed, accepting }
    }

    /// Answers every request of every connection with these bytes, and then closes.
    pub async fn answering(bytes: impl Into<Vec<u8>>) -> Raw {
        Raw::start(vec![vec![Step::Read, Step::Send(bytes.into())]]).await
    }

    /// Its address as a base URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The requests so far, head and body.
    pub fn requests(&self) -> Vec<String> {
        self.requests.lock().expect("no test panicked here").clone()
    }

    /// Waits until a client has closed a connection that was [`Step::UntilClosed`].
    pub async fn closed(&self) {
        self.closed.notified().await;
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn follow(
    mut stream: TcpStream,
    steps: Vec<Step>,
    heard: Arc<Mutex<Vec<String>>>,
    closed: Arc<tokio::sync::Notify>,
) {
    let _ = stream.set_nodelay(true);
    for step in steps {
        match step {
            Step::Read => match request(&mut stream).await {
                Some(request) => heard.lock().expect("no test panicked here").push(request),
                None => return,
            },
            Step::Send(bytes) => {
                if stream.write_all(&bytes).await.is_err() {
                    return;
                }
            }
            Step::Pause(time) => tokio::time::sleep(time).await,
            Step::Reset => {
                let _ = stream.set_zero_linger();
                return;
            }
            Step::UntilClosed => {
                let mut rest = Vec::new();
                let _ = stream.read_to_end(&mut rest).await;
                closed.notify_one();
            }
        }
    }
}

async fn request(stream: &mut TcpStream) -> Option<String> {
    let mut bytes = Vec::new();
    let mut chunk = [0u8; 16 << 10];
    loop {
        let text = String::from_utf8_lossy(&bytes);
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length =
                head.lines().find_map(|l| l.to_lowercase().strip_prefix("content-length: ")?.trim().parse().ok());
            if body.len() >= length.unwrap_or(0) {
                return Some(text.into_owned());
            }
        }
        match stream.read(&mut chunk).await {
            Ok(0) | Err(_) => return None,
            Ok(n) => bytes.extend_from_slice(&chunk[..n]),
        }
    }
}

/// A whole answer with this status, these header lines and this body.
pub fn answer(status: &str, headers: &str, body: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n{headers}\r\n{body}", body.len()).into_bytes()
}

/// The head of a stream of events that ends when the connection does.
pub fn events_until_close() -> &'static str {
    "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"
}

/// The head of a stream of events in chunks.
pub fn events_in_chunks() -> &'static str {
    "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
}

/// One chunk of a chunked body.
pub fn chunk(bytes: &str) -> String {
    format!("{:x}\r\n{bytes}\r\n", bytes.len())
}
