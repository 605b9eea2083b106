//! A server running: one thread and one runtime per core, which share nothing but counters.
//!
//! A runtime that steals work pays for it at every wake-up: on bodies of 37 KB it costs a sixth more.
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use llm_core::{Error, Gateway, Kind, Result};
use tokio::runtime::Builder;
use tokio::sync::watch;
use tokio_rustls::rustls::ServerConfig;

use crate::api::{App, Routes};
use crate::compose::Composed;
use crate::keys::Keys;
use crate::sockets::{self, Limits};
use crate::{Config, Telemetry, tls};

/// A server that is running. Dropping it stops it.
pub struct Server {
    /// Where the API is.
    pub address: SocketAddr,
    /// Where the metrics are, if they have an address of their own.
    pub metrics: Option<SocketAddr>,
    app: Arc<App>,
    tls: Arc<ArcSwapOption<ServerConfig>>,
    stop: watch::Sender<bool>,
    threads: Vec<JoinHandle<()>>,
}

/// Starts serving a gateway; returns as soon as connections are accepted. Models load meanwhile.
///
/// # Errors
/// `Config` if a setting is wrong, an address cannot be had, or others could reach a server that has no key.
pub fn start(config: Config, gateway: Arc<Gateway>, telemetry: Arc<Telemetry>) -> Result<Server> {
    config.check()?;
    if config.is_exposed() && config.has_no_key() {
        let message =
            format!("{} can be reached from other machines, and no key is set: set LLM_API_KEY", config.listen);
        return Err(Error::config(message).at("listen"));
    }
    if sockets::is_taken(config.listen) {
        return Err(
            Error::config(format!("another program listens on {}: choose another port", config.listen)).at("listen")
        );
    }
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = if config.threads == 0 { cores } else { config.threads };
    let listeners = sockets::listen(config.listen, threads)?;
    let address = listeners[0].local_addr().map_err(|e| Error::config("no address").because(e))?;
    let metrics = config.metrics.and_then(metrics_listener);
    let metrics_address = metrics.as_ref().and_then(|m| m.local_addr().ok());
    let (stop, stopped) = watch::channel(false);
    let limits = Limits {
        open: Arc::default(),
        most: config.max_connections,
        header_timeout: Duration::from_secs(config.header_timeout_s),
        body_timeout: Duration::from_secs(config.body_timeout_s),
        write_timeout: Duration::from_secs(config.write_timeout_s),
        grace: Duration::from_secs(config.shutdown_timeout_s),
        tls: Arc::new(tls::of(&config).map_err(|e| e.at("server"))?.into()),
    };
    let tls = limits.tls.clone();
    let app = App::new(gateway, telemetry, config)?;
    let routes = Routes::api(app.clone()).map_err(|e| e.at("server"))?;
    let mut threads = Vec::new();
    let mut metrics = metrics.map(|listener| (listener, Routes::metrics(app.clone())));
    for (index, listener) in listeners.into_iter().enumerate() {
        let worker = Worker {
            app: app.clone(),
            api: (listener, routes.clone()),
            metrics: metrics.take(), // the first thread has them, and the house's own work
            limits: limits.clone(),
            stopped: stopped.clone(),
            runs_house: index == 0,
        };
        let thread = std::thread::Builder::new().name(format!("llm-server-{index}"));
        let failed = |e| Error::new(Kind::Internal, "no thread to be had").because(e);
        threads.push(thread.spawn(move || worker.run()).map_err(failed)?);
    }
    Ok(Server { address, metrics: metrics_address, app, tls, stop, threads })
}

/// Metrics are worth an address of their own, and not worth failing for.
fn metrics_listener(address: SocketAddr) -> Option<std::net::TcpListener> {
    let listener = if sockets::is_taken(address) { None } else { sockets::listen(address, 1).ok() };
    if listener.is_none() {
        tracing::warn!(%address, "cannot listen there for metrics; they are on the API's address alone");
    }
    listener.and_then(|mut all| all.pop())
}

impl Server {
    /// Where the API is, as clients write it.
    pub fn url(&self) -> String {
        let scheme = if self.tls.load().is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.address)
    }

    /// Takes over the models of a configuration that was read anew; what did not change goes on as it is, and running
    /// answers end as they began. Returns the server's own settings that differ and change only with the next start.
    ///
    /// # Errors
    /// `Config`, with the place of what is wrong; then nothing has changed.
    pub fn reload(&self, composed: &Composed) -> Result<Vec<String>> {
        let applied = self.apply(composed);
        self.app.telemetry.reloaded(applied.is_ok());
        applied.map(|()| self.app.config.differences(&composed.server))
    }

    /// The files beside the configuration's own that are read anew when they change.
    pub fn files(&self) -> Vec<PathBuf> {
        let config = &self.app.config;
        [&config.keys, &config.tls_cert, &config.tls_key]
            .into_iter()
            .flatten()
            .cloned()
            .chain([".env".into()])
            .collect()
    }

    fn apply(&self, composed: &Composed) -> Result<()> {
        composed.check()?; // most of it changes with the next start, which shall not fail then
        // A certificate that was renewed stands in the same files; where there was none, clients speak plainly.
        let certificate = tls::of(&self.app.config).map_err(|e| e.at("server"))?;
        let keys = Keys::of(&self.app.config)?;
        self.app.gateway.reload(&composed.models)?;
        self.tls.store(certificate);
        self.app.keys.store(Arc::new(keys));
        Ok(())
    }

    /// Takes no new connections; running answers end.
    pub fn stop(&self) {
        self.app.is_draining.store(true, Ordering::Relaxed);
        self.stop.send_replace(true);
    }

    /// Waits until all has ended.
    ///
    /// # Errors
    /// `Internal` if a thread has died.
    pub fn wait(mut self) -> Result<()> {
        let died = |_| Error::new(Kind::Internal, "a server thread has died");
        std::mem::take(&mut self.threads).into_iter().try_for_each(|thread| thread.join().map_err(died))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

struct Worker {
    app: Arc<App>,
    api: (std::net::TcpListener, Routes),
    metrics: Option<(std::net::TcpListener, Routes)>,
    limits: Limits,
    stopped: watch::Receiver<bool>,
    runs_house: bool,
}

impl Worker {
    fn run(self) {
        let runtime =
            Builder::new_current_thread().enable_all().build().expect("a runtime needs no more than a file descriptor");
        let app = self.app.clone();
        runtime.block_on(self.serve());
        app.telemetry.log().flush();
    }

    async fn serve(self) {
        let app = self.app.clone();
        let beside = tokio::spawn(async move {
            let flush = async {
                let mut clock = tokio::time::interval(Duration::from_millis(500));
                loop {
                    clock.tick().await;
                    app.telemetry.log().flush();
                }
            };
            if self.runs_house { futures_util::future::join(app.gateway.run(), flush).await.0 } else { flush.await }
        });
        let scrapes = self.metrics.map(|(listener, router)| {
            // Whoever looks after the server gets in when it is full.
            let (grace, open, tls) = Default::default();
            let limits = Limits { grace, open, tls, ..self.limits.clone() };
            tokio::spawn(sockets::serve(listener, router, limits, self.stopped.clone()))
        });
        sockets::serve(self.api.0, self.api.1, self.limits, self.stopped).await;
        beside.abort();
        scrapes.inspect(|scrapes| scrapes.abort());
    }
}
