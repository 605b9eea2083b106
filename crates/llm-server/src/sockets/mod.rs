//! Listening sockets, one per thread on the same address, and the connections they accept.
mod answer;
mod head;
mod stall;
mod straight;

use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use hyper::rt::{Read, Write};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use llm_core::{Error, Result};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;

use crate::api::Routes;
use stall::Stall;
use straight::{Ended, Patience, Straight};

/// Connections that wait for an accept; a burst of clients must not be refused.
const BACKLOG: i32 = 4096;

/// So many sockets on one address; the kernel shares new connections out among them.
pub(crate) fn listen(address: SocketAddr, how_many: usize) -> Result<Vec<std::net::TcpListener>> {
    let first = bind(address)?;
    let actual = first.local_addr().map_err(|e| cannot(address, e))?; // port 0 has become a real one
    let mut all = vec![first];
    while cfg!(unix) && all.len() < how_many {
        all.push(bind(actual)?);
    }
    Ok(all)
}

fn bind(address: SocketAddr) -> Result<std::net::TcpListener> {
    let open = || {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_reuse_address(cfg!(unix))?;
        #[cfg(unix)]
        socket.set_reuse_port(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        Ok(socket.into())
    };
    open().map_err(|e| cannot(address, e))
}

fn cannot(address: SocketAddr, error: std::io::Error) -> Error {
    let remedy = match error.kind() {
        std::io::ErrorKind::AddrInUse => ": another program listens there; choose another port",
        std::io::ErrorKind::PermissionDenied => ": ports below 1024 are root's",
        _ => "",
    };
    Error::config(format!("cannot listen on {address}{remedy}")).at("listen").because(error)
}

/// Whether somebody listens there already. With SO_REUSEPORT a second server of the same user would share the port.
pub(crate) fn is_taken(address: SocketAddr) -> bool {
    address.port() != 0 && std::net::TcpStream::connect_timeout(&address, Duration::from_millis(200)).is_ok()
}

/// How connections are served.
#[derive(Clone)]
pub(crate) struct Limits {
    pub(crate) open: Arc<AtomicUsize>,
    pub(crate) most: usize,
    pub(crate) header_timeout: Duration,
    pub(crate) body_timeout: Duration,
    pub(crate) write_timeout: Duration,
    pub(crate) grace: Duration,
    pub(crate) tls: Arc<ArcSwapOption<ServerConfig>>,
}

/// How long answers have for their last word when the grace is over.
const LAST_WORD: Duration = Duration::from_secs(1);

/// Accepts until told to stop; then lets running answers end, for as long as the grace lasts. Those that have not ended
/// then say that they break off.
pub(crate) async fn serve(
    listener: std::net::TcpListener,
    routes: Routes,
    limits: Limits,
    mut stop: watch::Receiver<bool>,
) {
    let Ok(listener) = TcpListener::from_std(listener) else { return };
    let (mut connections, stopped) = (JoinSet::new(), stop.clone());
    let (over, is_over) = watch::channel(false);
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => drop(Open::one_more(&limits).map(|open| {
                    let routes = routes.from(peer.ip());
                    let connection = connection(stream, routes, limits.clone(), stopped.clone(), open);
                    connections.spawn(woken(connection, is_over.clone()))
                })),
                // Out of file descriptors: those that are open go on, and end.
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            },
            Some(_) = connections.join_next() => {}
            _ = told(&mut stop) => break,
        }
    }
    drop(listener);
    if tokio::time::timeout(limits.grace, all_of(&mut connections)).await.is_err() {
        routes.models().inspect(|app| app.is_over.store(true, Ordering::Relaxed));
        over.send_replace(true);
        let _ = tokio::time::timeout(LAST_WORD, all_of(&mut connections)).await;
    }
    connections.shutdown().await;
}

async fn all_of(connections: &mut JoinSet<()>) {
    while connections.join_next().await.is_some() {}
}

/// A connection that is looked at once more when the grace is over. It hears of that once, and a waker stays the same for
/// the life of its task: asked each time, the channel would cost every piece of a stream a lock.
async fn woken(connection: impl Future<Output = ()>, mut over: watch::Receiver<bool>) {
    let (mut connection, mut over) = (pin!(connection), pin!(told(&mut over)));
    let mut is_listening = false;
    poll_fn(|cx| {
        if !std::mem::replace(&mut is_listening, true) {
            let _ = over.as_mut().poll(cx);
        }
        connection.as_mut().poll(cx)
    })
    .await;
}

async fn connection(stream: TcpStream, routes: Routes, limits: Limits, stop: watch::Receiver<bool>, _open: Open) {
    let _ = stream.set_nodelay(true); // a token is smaller than a packet
    if let Some(tls) = limits.tls.load_full() {
        let shake = TlsAcceptor::from(tls).accept(Stall::new(stream, limits.write_timeout));
        let shaken = tokio::time::timeout(limits.header_timeout, shake).await;
        if let Ok(Ok(stream)) = shaken {
            elsewhere(TokioIo::new(stream), routes, limits.header_timeout, stop).await;
        }
        return;
    }
    let Some(app) = routes.models().cloned() else {
        let stream = Stall::new(stream, limits.write_timeout);
        return elsewhere(TokioIo::new(stream), routes, limits.header_timeout, stop).await;
    };
    let patience = Patience { head: limits.header_timeout, body: limits.body_timeout, write: limits.write_timeout };
    let mut told_to = stop.clone();
    match Straight::new(stream, &app, routes.peer(), patience).run(told(&mut told_to)).await {
        Ended::Closed => {}
        Ended::Elsewhere(stream, read) => {
            let (reader, writer) = stream.into_split();
            let writer = Stall::new(writer, limits.write_timeout);
            let io = tokio::io::join(std::io::Cursor::new(read).chain(reader), writer);
            elsewhere(TokioIo::new(io), routes, limits.header_timeout, stop).await;
        }
    }
}

/// Every route, and whatever HTTP can be.
async fn elsewhere<I: Read + Write + Unpin>(
    io: I,
    routes: Routes,
    header_timeout: Duration,
    mut stop: watch::Receiver<bool>,
) {
    let service = service_fn(move |request| routes.clone().answer(request));
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(header_timeout).writev(false);
    let mut connection = pin!(builder.serve_connection(io, service));
    tokio::select! {
        _ = connection.as_mut() => return,
        _ = told(&mut stop) => connection.as_mut().graceful_shutdown(),
    }
    let _ = connection.await;
}

/// One of the connections that may be open.
struct Open(Arc<AtomicUsize>);

impl Open {
    fn one_more(limits: &Limits) -> Option<Open> {
        let open = Open(limits.open.clone());
        (limits.open.fetch_add(1, Ordering::Relaxed) < limits.most).then_some(open)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

async fn told(stop: &mut watch::Receiver<bool>) {
    // The sender is the server itself: if that has gone, it has stopped.
    let _ = stop.wait_for(|stop| *stop).await;
}
