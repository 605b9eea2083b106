//! The three that answer: the upstream itself, nginx before it, and the gateway before it.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

use super::process::{self, Process};
use crate::load::{Connection, resident};

/// The gateway checks it; nginx passes it on.
pub(super) const KEY: &str = "bench-key-0123456789abcdef0123456789abcdef";
const PATIENCE: Duration = Duration::from_secs(20);

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

pub(super) struct Proxies {
    pub upstream: Proxy,
    pub nginx: Proxy,
    pub subject: Proxy,
    _folder: TempDir,
}

pub(super) async fn start(server: &Path) -> Result<Proxies> {
    let folder = tempfile::tempdir()?;
    let (process, address) = process::upstream()?;
    let upstream = Proxy { name: "direct".into(), address, ids: vec![process.id()], _process: process };
    let nginx = nginx(folder.path(), "nginx", address).await?;
    let subject = match server.to_str() {
        Some("nginx") => self::nginx(folder.path(), "nginx again", address).await?,
        _ => gateway(server, folder.path(), address).await?,
    };
    Ok(Proxies { upstream, nginx, subject, _folder: folder })
}

async fn nginx(folder: &Path, name: &str, upstream: SocketAddr) -> Result<Proxy> {
    let (address, folder) = (free_address()?, folder.join(name.replace(' ', "-")));
    std::fs::create_dir(&folder)?;
    std::fs::write(folder.join("nginx.conf"), nginx_conf(&folder, address, upstream))?;
    let mut command = Command::new("nginx");
    command.arg("-p").arg(&folder).arg("-e").arg(folder.join("error.log")).arg("-c").arg(folder.join("nginx.conf"));
    let process = up(Process::spawn(&mut command)?, address, &folder.join("error.log")).await?;
    let ids = workers(&process).await?;
    Ok(Proxy { name: name.into(), address, ids, _process: process })
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

async fn gateway(program: &Path, folder: &Path, upstream: SocketAddr) -> Result<Proxy> {
    let (address, log) = (free_address()?, folder.join("gateway.log"));
    let mut command = Command::new(program);
    command.current_dir(folder).env("VLLM_BASE_URL", format!("http://{upstream}")).env("LLM_API_KEY", KEY);
    command.env("LLM_LISTEN", address.to_string()).env("LLM_METRICS_LISTEN", free_address()?.to_string());
    command
        .stdin(Stdio::null())
        .stdout(std::fs::File::create(&log)?)
        .stderr(std::fs::File::create(folder.join("stderr"))?);
    let process = up(Process::spawn(&mut command)?, address, &folder.join("stderr")).await?;
    let name = program.file_name().unwrap_or_default().to_string_lossy().into_owned();
    Ok(Proxy { name, address, ids: vec![process.id()], _process: process })
}

/// Waits until it answers.
async fn up(mut process: Process, address: SocketAddr, log: &Path) -> Result<Process> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if healthy(address).await.is_ok() {
            return Ok(process);
        }
        let told = || std::fs::read_to_string(log).unwrap_or_default();
        let ended = process.ended();
        ensure!(ended.is_none(), "it ended at once ({}): {}", ended.unwrap_or_default(), told());
        ensure!(Instant::now() < deadline, "no answer at {address} within {PATIENCE:?}: {}", told());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn healthy(address: SocketAddr) -> Result<()> {
    let request = format!("GET /health HTTP/1.1\r\nhost: {address}\r\n\r\n");
    let head = Connection::open(address).await?.ask(request.as_bytes(), &mut Vec::new()).await?;
    ensure!(head.status == 200, "status {}", head.status);
    Ok(())
}

fn free_address() -> Result<SocketAddr> {
    TcpListener::bind("127.0.0.1:0")?.local_addr().context("a free port")
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}
