//! A stand-in for vLLM: its paths and shapes, told by each request what to do, cheap enough to measure others by.

mod answer;
mod script;
mod seen;
mod shapes;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

use answer::Answer;
pub use script::Script;
use seen::Visit;
pub use seen::{Seen, Tally};

/// A server on a free port of this machine; it stops, with all its connections, when dropped.
///
/// What a chat request, or one for vectors, wants is said in its `user` field, see [`Script`].
pub struct Upstream {
    address: SocketAddr,
    seen: Arc<Seen>,
    accepting: JoinHandle<()>,
}

impl Upstream {
    /// Starts on the runtime of the caller.
    pub async fn start() -> std::io::Result<Upstream> {
        Reserved::new()?.start()
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its base URL as `VLLM_BASE_URL` wants it, without a path.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What has come in so far.
    pub fn seen(&self) -> &Seen {
        &self.seen
    }

    /// Serves until the task that waits for this is dropped.
    pub async fn serve(mut self) {
        let _ = (&mut self.accepting).await;
    }
}

/// An address that is nobody else's and refuses connections, as a server does that is yet to be started.
pub struct Reserved {
    socket: TcpSocket,
    address: SocketAddr,
}

impl Reserved {
    /// A free port of this machine.
    pub fn new() -> std::io::Result<Reserved> {
        let socket = TcpSocket::new_v4()?;
        socket.bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
        Ok(Reserved { address: socket.local_addr()?, socket })
    }

    /// Its base URL, without a path.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Starts the server there, on the runtime of the caller.
    pub fn start(self) -> std::io::Result<Upstream> {
        let (address, seen) = (self.address, Arc::default());
        let accepting = tokio::spawn(accept(self.socket.listen(4096)?, Arc::clone(&seen)));
        Ok(Upstream { address, seen, accepting })
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, seen: Arc<Seen>) {
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        if let Ok((stream, _)) = listener.accept().await {
            connections.spawn(converse(stream, Arc::clone(&seen)));
        }
    }
}

async fn converse(stream: TcpStream, seen: Arc<Seen>) {
    // With Nagle on, the end of an unpaced stream waits 40 ms for an acknowledgement.
    let _ = stream.set_nodelay(true);
    let service = service_fn(|request| respond(request, Arc::clone(&seen)));
    // Without writev the chunks of a stream that are ready leave in one write.
    let connection = http1::Builder::new().writev(false).serve_connection(TokioIo::new(stream), service);
    let _ = connection.await; // a client that leaves is told by its `Visit`
}

/// An error closes the connection.
async fn respond(request: Request<Incoming>, seen: Arc<Seen>) -> io::Result<Response<Answer>> {
    Ok(match (request.method(), request.uri().path()) {
        (&Method::POST, "/v1/chat/completions") => asked(request.into_body(), &seen, shapes::whole).await?,
        (&Method::POST, "/v1/embeddings") => asked(request.into_body(), &seen, shapes::vectors).await?,
        (&Method::GET, "/v1/models") => shapes::models(),
        (&Method::GET, "/health") => shapes::health(),
        _ => shapes::not_found(),
    })
}

async fn asked(body: Incoming, seen: &Arc<Seen>, whole: fn() -> Response<Answer>) -> io::Result<Response<Answer>> {
    let visit = seen.visit();
    match body.collect().await {
        Ok(body) => {
            let body = body.to_bytes();
            seen.remember(body.clone());
            answered(&body, visit, whole).await
        }
        Err(_) => Ok(visit.ends(shapes::bad_request("the body broke off"))),
    }
}

async fn answered(body: &[u8], visit: Visit, whole: fn() -> Response<Answer>) -> io::Result<Response<Answer>> {
    let script = Script::read(body);
    if let Some(problem) = script.strict.then(|| shapes::problem(body)).flatten() {
        return Ok(visit.ends(shapes::bad_request(&problem)));
    }
    if !script.first.is_zero() {
        tokio::time::sleep(script.first).await;
    }
    if script.drops {
        visit.end();
        return Err(io::ErrorKind::ConnectionAborted.into());
    }
    Ok(match (script.status, script.stream) {
        (200, _) if script.page => visit.ends(shapes::page()),
        (200, true) => shapes::streamed(script, visit),
        (200, false) => visit.ends(whole()),
        _ => visit.ends(shapes::refusal(&script)),
    })
}
