//! A server that sends exactly the bytes it is told to, however wrong they are.
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::Notify;
use tokio::task::{JoinHandle, JoinSet};

use super::shapes;

/// What is done with a connection, step by step.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> llm_core::Result<()> {
/// use std::time::Duration;
/// use llm_core::testkit::{Mock, Step};
/// use llm_core::{Config, Llm};
/// // Slow to start, and gone in the middle of its first answer.
/// let steps = vec![vec![Step::Read, Step::Reset], vec![Step::Read, Step::Pause(Duration::from_millis(1)), Step::Says("hi")]];
/// let mock = Mock::start_after(Duration::from_millis(1), steps).await;
/// let settings = format!("[models.m]\nprovider = 'vllm'\nmodel = 'm'\nbase_url = '{}'", mock.url());
/// assert_eq!(Llm::new(&Config::from_toml(&settings)?)?.chat("?").await?.text, "hi");
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Step {
    /// Reads one request, head and body.
    Read,
    /// Reads one request that is a question for a model. Who asks before it what models there are, as those do who watch
    /// a host, finds no such route.
    ReadQuestion,
    /// Sends these bytes.
    Send(Vec<u8>),
    /// Sends these bytes one by one, each in a write of its own.
    Trickle(Vec<u8>),
    /// Sends these bytes over and over, until the client has closed.
    Flood(Vec<u8>),
    /// Answers the request that was read with this text, whole or streamed as it asks.
    Says(&'static str),
    /// The same, ended for this reason.
    SaysAndEnds(&'static str, &'static str),
    /// Sends the one or the other, as the request that was read asks.
    Answers {
        /// To those who want an answer in one piece.
        whole: Vec<u8>,
        /// To those who want a stream.
        streamed: Vec<u8>,
    },
    /// Waits.
    Pause(Duration),
    /// Ends with a reset instead of a close.
    Reset,
    /// Waits until the client has closed.
    UntilClosed,
}

/// A server with one list of steps for each connection, in order; the last list serves all further ones. It stops, with all
/// its connections, when it is dropped.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> llm_core::Result<()> {
/// use llm_core::testkit::{Mock, Step, answer};
/// use llm_core::{Config, Kind, Llm};
/// let refusal = answer("401 Unauthorized", "connection: close\r\n", r#"{"error":"Unauthorized"}"#);
/// let mock = Mock::start(vec![vec![Step::Read, Step::Send(refusal)]]).await;
/// let llm = Llm::new(&Config::from_toml(&format!("[models.m]\nprovider = 'vllm'\nbase_url = '{}'", mock.url()))?)?;
/// assert_eq!(llm.chat("?").await.unwrap_err().kind(), Kind::Unauthorized);
/// assert_eq!(mock.requests().len(), 1); // a wrong key is not tried again
/// # Ok(())
/// # }
/// ```
pub struct Mock {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

#[derive(Default)]
struct Shared {
    requests: Mutex<Vec<String>>,
    closed: Notify,
}

impl Mock {
    /// Starts on a free port of this machine and on the runtime of the caller.
    ///
    /// # Panics
    /// If there is no free port.
    pub async fn start(connections: Vec<Vec<Step>>) -> Mock {
        Mock::start_after(Duration::ZERO, connections).await
    }

    /// The same, but for so long it refuses connections, as a server does that is being started.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> llm_core::Result<()> {
    /// use std::time::Duration;
    /// use llm_core::testkit::{Mock, Step};
    /// let mock = Mock::start_after(Duration::from_secs(60), vec![vec![Step::Says("hi")]]).await;
    /// let refused = tokio::net::TcpStream::connect(mock.url().trim_start_matches("http://")).await;
    /// assert!(refused.is_err());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Panics
    /// If there is no free port.
    pub async fn start_after(refusing: Duration, connections: Vec<Vec<Step>>) -> Mock {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.bind(SocketAddr::from(([127, 0, 0, 1], 0))).expect("a free port");
        let address = socket.local_addr().expect("it is bound");
        let shared = Arc::<Shared>::default();
        let heard = shared.clone();
        // A port that is bound and not listened to is nobody else's, and refuses.
        let accepting = if refusing.is_zero() {
            tokio::spawn(accept(socket.listen(1024).expect("a free port"), connections, heard))
        } else {
            tokio::spawn(async move {
                tokio::time::sleep(refusing).await;
                accept(socket.listen(1024).expect("a free port"), connections, heard).await;
            })
        };
        Mock { address, shared, accepting }
    }

    /// Answers the first request of every connection with these bytes, and then closes.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> llm_core::Result<()> {
    /// use llm_core::testkit::{Mock, answer};
    /// use llm_core::{Config, Kind, Llm};
    /// let mock = Mock::answering(answer("400 Bad Request", "connection: close\r\n", r#"{"error":"no"}"#)).await;
    /// let settings = format!("[models.m]\nprovider = 'vllm'\nmodel = 'm'\nbase_url = '{}'", mock.url());
    /// let error = Llm::new(&Config::from_toml(&settings)?)?.chat("?").await.unwrap_err();
    /// assert_eq!(error.kind(), Kind::Invalid);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Panics
    /// If there is no free port.
    pub async fn answering(bytes: impl Into<Vec<u8>>) -> Mock {
        Mock::start(vec![vec![Step::Read, Step::Send(bytes.into())]]).await
    }

    /// Its address as a base URL, without a path.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The requests so far, head and body.
    pub fn requests(&self) -> Vec<String> {
        self.shared.requests.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until a client has closed a connection that was [`Step::UntilClosed`] or [`Step::Flood`].
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> llm_core::Result<()> {
    /// use llm_core::testkit::{Mock, Step, chunk, events_in_chunks};
    /// use llm_core::{Config, Llm};
    /// let word = chunk("data: {\"choices\":[{\"delta\":{\"content\":\"hi\"}}]}\n\n");
    /// let begins = [events_in_chunks(), &word].concat().into_bytes();
    /// let mock = Mock::start(vec![vec![Step::Read, Step::Send(begins), Step::UntilClosed]]).await;
    /// let settings = format!("[models.m]\nprovider = 'vllm'\nmodel = 'm'\nbase_url = '{}'", mock.url());
    /// let stream = Llm::new(&Config::from_toml(&settings)?)?.stream("?").await?;
    /// drop(stream);
    /// mock.closed().await; // who leaves is noticed
    /// # Ok(())
    /// # }
    /// ```
    pub async fn closed(&self) {
        self.shared.closed.notified().await;
    }
}

impl Drop for Mock {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, connections: Vec<Vec<Step>>, shared: Arc<Shared>) {
    let mut running = JoinSet::new(); // they end with it
    let last = connections.last().cloned().unwrap_or_default();
    let mut steps = connections.into_iter().chain(std::iter::repeat(last));
    while let (Ok((stream, _)), Some(steps)) = (listener.accept().await, steps.next()) {
        while running.try_join_next().is_some() {}
        running.spawn(follow(stream, steps, shared.clone()));
    }
}

async fn follow(mut stream: TcpStream, steps: Vec<Step>, shared: Arc<Shared>) {
    let _ = stream.set_nodelay(true);
    let mut asked = String::new();
    for step in steps {
        match step {
            Step::Read | Step::ReadQuestion => loop {
                let Some(request) = request(&mut stream).await else { return };
                if matches!(step, Step::ReadQuestion) && request.starts_with("GET ") {
                    let _ = stream.write_all(&super::answer("404 Not Found", "", r#"{"detail":"Not Found"}"#)).await;
                    continue;
                }
                asked.clone_from(&request);
                shared.requests.lock().unwrap_or_else(PoisonError::into_inner).push(request);
                break;
            },
            Step::Reset => {
                let _ = stream.set_zero_linger();
                return;
            }
            Step::Pause(time) => tokio::time::sleep(time).await,
            Step::UntilClosed => {
                let _ = stream.read_to_end(&mut Vec::new()).await;
                shared.closed.notify_one();
            }
            Step::Send(bytes) => _ = stream.write_all(&bytes).await,
            Step::Flood(bytes) => {
                while stream.write_all(&bytes).await.is_ok() {}
                shared.closed.notify_one();
            }
            Step::Says(text) => _ = stream.write_all(&shapes::said(text, "stop", &asked)).await,
            Step::SaysAndEnds(text, why) => _ = stream.write_all(&shapes::said(text, why, &asked)).await,
            Step::Answers { whole, streamed } => {
                let bytes = if shapes::wants_stream(&asked) { streamed } else { whole };
                let _ = stream.write_all(&bytes).await;
            }
            Step::Trickle(bytes) => trickle(&mut stream, &bytes).await,
        }
    }
}

async fn trickle(stream: &mut TcpStream, bytes: &[u8]) {
    for byte in bytes {
        let _ = stream.write_all(&[*byte]).await;
        tokio::task::yield_now().await; // to a client on the same thread
    }
}

async fn request(stream: &mut TcpStream) -> Option<String> {
    let mut bytes = Vec::new();
    let mut chunk = [0u8; 16 << 10];
    loop {
        if let Some(length) = super::wire::length(&bytes) {
            return Some(String::from_utf8_lossy(&bytes[..length]).into_owned());
        }
        match stream.read(&mut chunk).await {
            Ok(0) | Err(_) => return None,
            Ok(n) => bytes.extend_from_slice(&chunk[..n]),
        }
    }
}
