//! Many streams that are open at once and say little: what they weigh, and how they are held open.

use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use tokio::task::JoinSet;

use super::proxies::{KEY, Proxies};
use super::{Options, case, growth, process, proxies};
use crate::load::{Connection, post};

/// Streams that have begun. They end when this is dropped.
pub(super) struct Crowd(Vec<Connection>);

/// So many knock at the same time: more than fit into the line at a listening socket would be turned away.
const AT_ONCE: usize = 256;
/// What a server needs beside its streams: sockets that listen, runtimes, idle connections.
const SPARE: u64 = 500;

impl Crowd {
    /// Opens so many streams, each of which has said its first word and says the next much later.
    pub(super) async fn open(address: SocketAddr, count: usize) -> Result<Crowd> {
        ensure!(
            process::open_files()? > 2 * count as u64 + SPARE,
            "too few open files for {count} streams: `ulimit -Hn`"
        );
        let request = post("/v1/chat/completions", Some(KEY), case::stream("chunks=8 every_ms=30000").as_bytes());
        let (mut opening, mut open) = (JoinSet::new(), Vec::new());
        while open.len() < count {
            while opening.len() < AT_ONCE && open.len() + opening.len() < count {
                opening.spawn(begun(address, request.clone()));
            }
            let stream = opening.join_next().await.context("one is being opened")?.expect("no client panics");
            open.push(stream.with_context(|| format!("after {} streams", open.len()))?);
        }
        Ok(Crowd(open))
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

async fn begun(address: SocketAddr, request: Vec<u8>) -> Result<Connection> {
    let (mut stream, mut word) = (Connection::open(address).await?, Vec::new());
    stream.send(&request).await?;
    let head = stream.head().await?;
    ensure!(head.status == 200, "status {}", head.status);
    ensure!(stream.chunk(&mut word).await?, "it ended before it began");
    Ok(stream)
}

/// Resident memory of the gateway, in bytes.
pub(super) struct Weight {
    pub streams: usize,
    pub idle: u64,
    pub open: u64,
}

const STREAMS: usize = 8_000;

/// A gateway of its own holds them: what the load before left in another's allocator would hide some.
pub(super) async fn weigh(proxies: &Proxies, options: &Options) -> Result<Weight> {
    let settings = growth::settings(proxies.upstream.address, "");
    let gateway = proxies::gateway(&options.server()?, proxies.folder.path(), &settings).await?;
    let idle = gateway.resident()?;
    let crowd = Crowd::open(gateway.address, options.streams(STREAMS)).await?;
    Ok(Weight { streams: crowd.len(), idle, open: gateway.resident()? })
}
