//! The LLM gateways that come as Python wheels, each at its best before one vLLM; `scripts/peers` installs them.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use super::cost::{self, Cost};
use super::proxies::{self, Kind, Turns};
use super::{Options, case, latency};

/// A gateway that is not ours.
pub(super) struct Peer {
    pub name: &'static str,
    /// Whether a request takes it so long that it is measured in fewer slices.
    pub is_slow: bool,
    /// The words behind the program's name.
    arguments: fn(&Seat<'_>) -> Result<Vec<String>>,
    environment: &'static [(&'static str, &'static str)],
}

/// Where a peer is started.
pub(super) struct Seat<'a> {
    pub folder: &'a Path,
    pub address: SocketAddr,
    pub metrics: SocketAddr,
    pub upstream: SocketAddr,
    pub turns: Turns,
}

pub(super) const PEERS: &[Peer] = &[
    Peer { name: "vllm-router", is_slow: false, arguments: vllm_router, environment: &[] },
    Peer { name: "smg", is_slow: false, arguments: smg, environment: &[] },
    Peer {
        name: "litellm",
        is_slow: true,
        arguments: litellm,
        // Nothing is fetched at the start, nothing is logged, and no key is looked up.
        environment: &[
            ("LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY", "true"),
            ("LITELLM_LOCAL_MODEL_COST_MAP", "True"),
            ("LITELLM_LOG", "ERROR"),
            ("LITELLM_MODE", "PRODUCTION"),
        ],
    },
];

impl Peer {
    pub(super) fn command(&self, seat: &Seat<'_>) -> Result<Command> {
        let mut command = Command::new(self.programs()?.join(self.name));
        command.args((self.arguments)(seat)?).envs(self.environment.iter().copied());
        Ok(command)
    }

    /// Installs it, if need be.
    pub(super) fn programs(&self) -> Result<PathBuf> {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../scripts/peers");
        let told = Command::new(script).arg(self.name).stdin(Stdio::null()).stderr(Stdio::inherit()).output();
        let told = told.context(script)?;
        ensure!(told.status.success(), "{} is not installed", self.name);
        Ok(PathBuf::from(String::from_utf8(told.stdout)?.trim()))
    }
}

/// What a gateway costs beside nginx.
pub(super) struct Figures {
    pub name: String,
    /// Each case, and how it ended.
    pub costs: Vec<(String, Result<Cost>)>,
    /// After the load, in bytes.
    pub resident: u64,
    /// To a small chat, in microseconds.
    pub latency: Result<f64>,
}

pub(super) async fn measure(kind: &Kind, options: &Options) -> Result<Figures> {
    let is_slow = matches!(kind, Kind::Peer(peer) if peer.is_slow);
    let proxies = proxies::start(kind).await?;
    eprintln!("{}", kind.name());
    let mut costs = Vec::new();
    for case in case::beside_peers(options, if is_slow { 3 } else { 10 }) {
        let name = case.name.clone();
        let cost = cost::measure(proxies.pair(), &[case], options).await;
        costs.push((name, cost.map(|mut costs| costs.remove(0))));
    }
    let (latency, resident) = (latency::added(&proxies).await, proxies.subject.resident()?);
    Ok(Figures { name: kind.name(), costs, resident, latency })
}

fn words(line: &str) -> Vec<String> {
    line.split_whitespace().map(str::to_owned).collect()
}

fn smg(seat: &Seat<'_>) -> Result<Vec<String>> {
    Ok(words(&format!("launch {}", router(seat))))
}

fn vllm_router(seat: &Seat<'_>) -> Result<Vec<String>> {
    Ok(words(&router(seat)))
}

/// What two branches of one program have in common.
fn router(seat: &Seat<'_>) -> String {
    let Seat { address, metrics, upstream, .. } = seat;
    let turns = match seat.turns {
        Turns::Many => "",
        Turns::One => "--max-concurrent-requests 1 --queue-size 100 --queue-timeout-secs 60",
    };
    format!(
        "--host {} --port {} --worker-urls http://{upstream} --policy round_robin --log-level error \
         --prometheus-host 127.0.0.1 --prometheus-port {} {turns}",
        address.ip(),
        address.port(),
        metrics.port(),
    )
}

/// Its `cancel_on_disconnect` is off unless asked for, `user` is dropped unless allowed, and a deployment's
/// `max_parallel_requests` is a line.
fn litellm(seat: &Seat<'_>) -> Result<Vec<String>> {
    let turns = if seat.turns == Turns::One { ", max_parallel_requests: 1" } else { "" };
    let config = format!(
        "model_list:\n- model_name: tiny\n  litellm_params: {{model: hosted_vllm/tiny, api_base: \"http://{}/v1\", \
         allowed_openai_params: [user]{turns}}}\n\
         general_settings: {{cancel_on_disconnect: true}}\n",
        seat.upstream
    );
    std::fs::write(seat.folder.join("litellm.yaml"), config)?;
    let (ip, port) = (seat.address.ip(), seat.address.port());
    Ok(words(&format!("--config litellm.yaml --host {ip} --port {port} --num_workers 1 --telemetry False")))
}
