//! A stand-in for vLLM: its paths and shapes, told by each request what to do, cheap enough to measure others by.

mod answer;
mod script;
mod seen;
mod shapes;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

use answer::Answer;
pub use script::Script;
use seen::Visit;
pub use seen::{Seen, Tally};

/// A server on a free port of this machine; it stops, with all its connections, when dropped.
///
/// What a chat request wants is said in its `user` field, see [`Script`].
pub struct Upstream {
    address: SocketAddr,
    seen: Arc<Seen>,
    accepting: JoinHandle<()>,
}

impl Upstream {
    /// Starts on the runtime of the caller.
    pub async fn start() -> std::io::Result<Upstream> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let (address, seen) = (listener.local_addr()?, Arc::default());
        let accepting = tokio::spawn(accept(listener, Arc::clone(&seen)));
        Ok(Upstream { address, seen, accepting })
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

async fn respond(request: Request<Incoming>, seen: Arc<Seen>) -> Result<Response<Answer>, Infallible> {
    Ok(match (request.method(), request.uri().path()) {
        (&Method::POST, "/v1/chat/completions") => asked(request.into_body(), seen.visit()).await,
        (&Method::GET, "/v1/models") => shapes::models(),
        (&Method::GET, "/health") => shapes::health(),
        _ => shapes::not_found(),
    })
}

async fn asked(body: Incoming, visit: Visit) -> Response<Answer> {
    match body.collect().await {
        Ok(body) => chat(&body.to_bytes(), visit).await,
        Err(_) => visit.ends(shapes::bad_request("the body broke off")),
    }
}

async fn chat(body: &[u8], visit: Visit) -> Response<Answer> {
    let script = Script::read(body);
    if let Some(problem) = script.strict.then(|| shapes::problem(body)).flatten() {
        return visit.ends(shapes::bad_request(&problem));
    }
    if !script.first.is_zero() {
        tokio::time::sleep(script.first).await;
    }
    match (script.status, script.stream) {
        (200, true) => shapes::streamed(script, visit),
        (200, false) => visit.ends(shapes::whole()),
        (status, _) => visit.ends(shapes::refusal(status)),
    }
}
