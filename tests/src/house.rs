//! A whole house in this process: a configuration as a server on free ports.
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use llm_core::provider::{Kind, hosts};
use llm_core::{BoxFuture, Call, Config, Gateway, ModelStatus, Operation, Operations, Provider, Reply, Result};
use llm_server::compose::Composed;
use llm_server::{Server, Telemetry, log::Log};

const PATIENCE: Duration = Duration::from_secs(20);

/// A server that stops when this is dropped.
pub struct House {
    /// Its models.
    pub gateway: Arc<Gateway>,
    server: Server,
}

impl House {
    /// Serves this configuration (TOML; `[server]` may be in it), with no log and no metrics address.
    pub fn of(toml: &str) -> House {
        House::with(toml, &[])
    }

    /// The same with further kinds of provider, such as the engine's.
    pub fn with(toml: &str, kinds: &[Kind]) -> House {
        House::build(toml, kinds).expect("the test's configuration")
    }

    /// The same, for tests of what is wrong.
    pub fn try_of(toml: &str) -> Result<House> {
        House::build(toml, &[])
    }

    fn build(toml: &str, kinds: &[Kind]) -> Result<House> {
        let composed = composed(toml)?;
        let telemetry = Telemetry::new(Log::to("off").expect("no log")).expect("metrics");
        let gateway = Arc::new(Gateway::with(&composed.models, kinds, telemetry.clone())?);
        let server = llm_server::start(composed.server, gateway.clone(), telemetry)?;
        Ok(House { gateway, server })
    }

    /// Reads a configuration anew, and the files beside it.
    pub fn reload(&self, toml: &str) -> Result<()> {
        self.server.reload(&composed(toml)?).map(drop)
    }

    /// Waits until this holds of its models.
    pub async fn until(&self, holds: impl Fn(&[ModelStatus]) -> bool) {
        let since = Instant::now();
        while !holds(&self.gateway.models()) {
            assert!(since.elapsed() < PATIENCE, "{:?}", self.gateway.models());
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// In front of one upstream, which is asked for the client's own model.
    pub fn before(upstream: &str) -> House {
        House::of(&format!("[models.'*']\nprovider = 'vllm'\nbase_url = '{upstream}'"))
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.server.address
    }

    /// Its address as a base URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.address())
    }

    /// Takes no new connections.
    pub fn stop(&self) {
        self.server.stop();
    }

    /// Waits until running answers have ended.
    pub fn wait(self) {
        self.server.wait().expect("no thread died");
    }
}

fn composed(toml: &str) -> Result<Composed> {
    let mut table: toml::Table = toml.parse().expect("the test's TOML");
    let mut server = llm_server::Config::take(&mut table)?;
    server.listen = SocketAddr::from(([127, 0, 0, 1], 0));
    server.metrics = None;
    Ok(Composed { server, models: Config::from_table(table)? })
}

/// A vLLM that is asked by clients alone: the house's own looks at its models would take the connections that a script
/// means for questions.
pub const UNWATCHED: Kind =
    Kind::new("unwatched", "a vLLM that nobody probes", |table| Ok(Arc::new(Unwatched((hosts::VLLM.build)(table)?))));

struct Unwatched(Arc<dyn Provider>);

impl Provider for Unwatched {
    fn call<'a>(&'a self, call: &'a Call) -> BoxFuture<'a, Result<Reply>> {
        self.0.call(call)
    }

    fn serves(&self) -> Operations {
        let others = self.0.serves().iter().filter(|operation| *operation != Operation::Models);
        others.fold(Operations::NONE, |all, operation| all | operation.into())
    }
}
