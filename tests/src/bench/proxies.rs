//! Those that answer: the upstream itself, nginx before it, and before it the gateway, or one of its peers.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

use super::case;
use super::cost::Pair;
use super::peers::{Peer, Seat};
use super::process::{self, Process};
use crate::load::{Connection, post, resident};

/// The gateway checks it; nginx passes it on.
pub(super) const KEY: &str = "bench-key-0123456789abcdef0123456789abcdef";
const PATIENCE: Duration = Duration::from_secs(20);
/// A peer of Python's loads a thousand modules first.
const PEERS_PATIENCE: Duration = Duration::from_secs(180);

/// A running server and the processes whose CPU time is its own.
pub(super) struct Proxy {
    pub name: String,
    pub address: SocketAddr,
    ids: Vec<u32>,
    _process: Process,
}

impl Proxy {
    pub(super) fn cpu(&self) -> Result<Duration> {
        self.ids.iter().map(|&id| process::cpu(id)).sum()
    }

    pub(super) fn resident(&self) -> Result<u64> {
        self.ids.iter().map(|&id| resident(id)).sum()
    }
}

/// What can stand before the upstream.
pub(super) enum Kind {
    Nginx,
    Gateway(PathBuf),
    Peer(&'static Peer),
}

/// How many calls it shall have upstream at once.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Turns {
    Many,
    One,
}

impl Kind {
    pub(super) fn of(server: &Path) -> Kind {
        if server.to_str() == Some("nginx") { Kind::Nginx } else { Kind::Gateway(server.to_owned()) }
    }

    pub(super) fn name(&self) -> String {
        match self {
            Kind::Nginx => "nginx".into(),
            Kind::Gateway(program) => program.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            Kind::Peer(peer) => peer.name.into(),
        }
    }

    pub(super) async fn start(&self, folder: &Path, upstream: SocketAddr, turns: Turns) -> Result<Proxy> {
        match self {
            Kind::Nginx => nginx(folder, upstream).await,
            Kind::Gateway(program) => gateway(program, folder, &settings(upstream, turns)).await,
            Kind::Peer(peer) => self::peer(peer, folder, upstream, turns).await,
        }
    }
}

pub(super) struct Proxies {
    pub upstream: Proxy,
    pub nginx: Proxy,
    pub subject: Proxy,
    pub folder: TempDir,
}

impl Proxies {
    /// The subject beside nginx.
    pub(super) fn pair(&self) -> Pair<'_> {
        Pair { upstream: &self.upstream, base: &self.nginx, subject: &self.subject }
    }
}

pub(super) async fn start(kind: &Kind) -> Result<Proxies> {
    let folder = tempfile::tempdir()?;
    let (process, address) = process::upstream()?;
    let upstream = Proxy { name: "direct".into(), address, ids: vec![process.id()], _process: process };
    let nginx = nginx(folder.path(), address).await?;
    let subject = kind.start(folder.path(), address, Turns::Many).await?;
    Ok(Proxies { upstream, nginx, subject, folder })
}

/// A folder for one program's files.
fn nook(folder: &Path, address: SocketAddr) -> Result<PathBuf> {
    let nook = folder.join(address.port().to_string());
    std::fs::create_dir(&nook)?;
    Ok(nook)
}

async fn nginx(folder: &Path, upstream: SocketAddr) -> Result<Proxy> {
    let address = free_address()?;
    let folder = nook(folder, address)?;
    std::fs::write(folder.join("nginx.conf"), nginx_conf(&folder, address, upstream))?;
    let mut command = Command::new("nginx");
    command.arg("-p").arg(&folder).arg("-e").arg(folder.join("error.log")).arg("-c").arg(folder.join("nginx.conf"));
    let process = up(Process::spawn(&mut command)?, address, &folder.join("error.log")).await?;
    let ids = workers(&process).await?;
    Ok(Proxy { name: "nginx".into(), address, ids, _process: process })
}

/// The master and its workers, once all are there: the first answers while the last is still being started.
async fn workers(master: &Process) -> Result<Vec<u32>> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let ids = process::family(master.id())?;
        if ids.len() == cores() + 1 {
            return Ok(ids);
        }
        ensure!(Instant::now() < deadline, "nginx has {} processes, not {} and their master", ids.len(), cores());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// nginx at its best for this work: no log, nothing buffered on the way back, a body kept in memory, connections kept
/// on both sides.
fn nginx_conf(folder: &Path, address: SocketAddr, upstream: SocketAddr) -> String {
    let (folder, cores) = (folder.display(), cores());
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|of| format!("{of}_temp_path {folder}/{of};\n"))
        .concat();
    format!(
        "{user}daemon off;\nworker_processes {cores};\npid {folder}/nginx.pid;\nevents {{ worker_connections 4096; }}\n\
         http {{\n{temporary}access_log off;\nkeepalive_timeout 1h;\nkeepalive_requests 1000000000;\n\
         client_body_buffer_size 1m;\n\
         upstream vllm {{ server {upstream}; keepalive 256; keepalive_requests 1000000000; }}\n\
         server {{\nlisten {address};\nlocation / {{\nproxy_pass http://vllm;\nproxy_http_version 1.1;\n\
         proxy_set_header Connection \"\";\nproxy_buffering off;\n}}\n}}\n}}\n",
        user = user(),
    )
}

/// Started by root, nginx would change to a user who may not read the folder.
fn user() -> &'static str {
    let root = Command::new("id").arg("-u").output().is_ok_and(|id| id.stdout.trim_ascii() == b"0");
    if root { "user root;\n" } else { "" }
}

/// The gateway's configuration: one model, one key.
fn settings(upstream: SocketAddr, turns: Turns) -> String {
    let queue = if turns == Turns::One { "queue = { limit = 1 }\n" } else { "" };
    format!("[server]\napi_key = '{KEY}'\n[models.tiny]\nprovider = 'vllm'\nbase_url = 'http://{upstream}'\n{queue}")
}

/// The gateway with these settings.
pub(super) async fn gateway(program: &Path, folder: &Path, settings: &str) -> Result<Proxy> {
    let address = free_address()?;
    let folder = nook(folder, address)?;
    std::fs::write(folder.join("llm.toml"), settings)?;
    // Most machines begin with so few open files: the rest is for the server itself to ask for.
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -Sn 1024 && exec \"$@\"", "sh"]).arg(program).args(["--config", "llm.toml"]);
    command.env("LLM_LISTEN", address.to_string()).env("LLM_METRICS_LISTEN", free_address()?.to_string());
    for variable in ["LLM_API_KEY", "LLM_API_KEY_FILE", "LLM_KEYS"] {
        command.env_remove(variable);
    }
    let process = up(quiet(&mut command, &folder)?, address, &folder.join("stderr")).await?;
    let name = Kind::of(program).name();
    Ok(Proxy { name, address, ids: vec![process.id()], _process: process })
}

async fn peer(peer: &'static Peer, folder: &Path, upstream: SocketAddr, turns: Turns) -> Result<Proxy> {
    let address = free_address()?;
    let folder = nook(folder, address)?;
    let seat = Seat { folder: &folder, address, metrics: free_address()?, upstream, turns };
    let process = quiet(&mut peer.command(&seat)?, &folder)?;
    let process = answers(process, address, &folder.join("stderr")).await?;
    Ok(Proxy { name: peer.name.into(), address, ids: process::family(process.id())?, _process: process })
}

/// Started in a folder of its own, in which its words are kept.
fn quiet(command: &mut Command, folder: &Path) -> Result<Process> {
    let file = |name| std::fs::File::create(folder.join(name));
    command.current_dir(folder).stdin(Stdio::null()).stdout(file("stdout")?).stderr(file("stderr")?);
    Process::spawn(command)
}

/// Waits until it is there.
async fn up(process: Process, address: SocketAddr, log: &Path) -> Result<Process> {
    let health = format!("GET /health HTTP/1.1\r\nhost: {address}\r\n\r\n");
    patiently(process, address, health.as_bytes(), PATIENCE, log).await
}

/// Waits until it passes a question on: a peer says that it is well before it knows its upstream.
async fn answers(process: Process, address: SocketAddr, log: &Path) -> Result<Process> {
    let question = post("/v1/chat/completions", Some(KEY), case::small().as_bytes());
    patiently(process, address, &question, PEERS_PATIENCE, log).await
}

async fn patiently(
    mut process: Process,
    address: SocketAddr,
    request: &[u8],
    patience: Duration,
    log: &Path,
) -> Result<Process> {
    let deadline = Instant::now() + patience;
    loop {
        if is_answered(address, request).await.is_ok() {
            return Ok(process);
        }
        let told = || last_words(&std::fs::read_to_string(log).unwrap_or_default());
        let ended = process.ended();
        ensure!(ended.is_none(), "it ended at once ({}): {}", ended.unwrap_or_default(), told());
        ensure!(Instant::now() < deadline, "no answer at {address} within {patience:?}: {}", told());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// The end of a log: what went wrong stands there, and some logs are long.
fn last_words(log: &str) -> String {
    let lines: Vec<&str> = log.lines().filter(|line| !line.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(12)..].join("\n")
}

async fn is_answered(address: SocketAddr, request: &[u8]) -> Result<()> {
    let head = Connection::open(address).await?.ask(request, &mut Vec::new()).await?;
    ensure!(head.status == 200, "status {}", head.status);
    Ok(())
}

fn free_address() -> Result<SocketAddr> {
    TcpListener::bind("127.0.0.1:0")?.local_addr().context("a free port")
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}
