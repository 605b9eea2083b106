//! What goes on beside the calls: models are loaded, in order, and deployments are asked how they are.
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::time::{Instant, MissedTickBehavior, interval, interval_at};

use super::Gateway;
use crate::call::{Life, LifeStatus};
use crate::route::{Deployment, Status};

/// How often those that are not well are asked; asking for the models costs no token.
const PROBE_SICK: Duration = Duration::from_secs(1);
/// Those that are well are asked every so many rounds.
const ROUNDS_WELL: u64 = 15;
/// How often the log is told how far a load is.
const TELLS_PROGRESS: Duration = Duration::from_secs(2);

impl Gateway {
    /// Loads what must be loaded, one after the other, and keeps asking deployments how they are. Runs until it is
    /// dropped; the doors own it.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> llm_core::Result<()> {
    /// use std::time::Duration;
    /// use llm_core::{Config, Gateway};
    /// let gateway = Gateway::new(&Config::from_toml("[models.a]\nprovider = 'fake'")?)?;
    /// let watch = async {
    ///     while gateway.models()[0].status != "ready" {
    ///         tokio::time::sleep(Duration::from_millis(1)).await;
    ///     }
    /// };
    /// tokio::select! {
    ///     () = gateway.run() => unreachable!("it runs until it is dropped"),
    ///     () = watch => {}
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn run(&self) {
        futures_util::future::join(self.keep_loading(), self.keep_probing()).await;
    }

    async fn keep_loading(&self) {
        let mut clock = interval(Duration::from_millis(200));
        clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            clock.tick().await; // a reload may bring new ones
            for deployment in self.deployments() {
                let Some(life) = deployment.provider.life() else { continue };
                if life.status() == LifeStatus::Unloaded {
                    load(&deployment.name, life).await;
                }
            }
        }
    }

    async fn keep_probing(&self) {
        let mut clock = interval(PROBE_SICK);
        clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // One that hangs must not keep the others from being asked.
        let mut probes = FuturesUnordered::new();
        let mut round = 0u64;
        loop {
            tokio::select! {
                _ = clock.tick() => {
                    let is_well = |d: &Deployment| matches!(d.status(), Status::Ready | Status::Draining);
                    let due = |d: &Arc<Deployment>| round.is_multiple_of(ROUNDS_WELL) || !is_well(d);
                    let remote = self.deployments().into_iter().filter(|d| d.provider.life().is_none()).filter(due);
                    probes.extend(remote.filter(|d| !d.is_being_probed()).map(probe));
                    round += 1;
                }
                Some(()) = probes.next() => {}
            }
        }
    }

    fn deployments(&self) -> Vec<Arc<Deployment>> {
        self.router().models.iter().flat_map(|m| m.deployments.clone()).collect()
    }
}

/// Loads one, and tells the log how far it is.
async fn load(deployment: &str, life: &dyn Life) {
    let (since, mut loading) = (Instant::now(), life.load());
    let mut clock = interval_at(since + TELLS_PROGRESS, TELLS_PROGRESS);
    tracing::info!(deployment, "loading");
    let loaded = loop {
        tokio::select! {
            loaded = &mut loading => break loaded,
            _ = clock.tick() => if let LifeStatus::Loading(share) = life.status() {
                tracing::info!(deployment, percent = (share * 100.0).round(), "loading");
            },
        }
    };
    match loaded {
        Ok(()) => tracing::info!(deployment, seconds = since.elapsed().as_secs_f32(), "loaded"),
        Err(error) => tracing::error!(deployment, %error, "could not be loaded"),
    }
}

async fn probe(deployment: Arc<Deployment>) {
    deployment.health.is_watched();
    let before = deployment.status();
    let answer = deployment.probe().await;
    let now = deployment.status();
    if now != before {
        tracing::info!(deployment = deployment.name, before = before.name(), now = now.name(), error = ?answer.err(), "status");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::*;
    use crate::error::Result;
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// Lists a model and counts how often it is asked to; anything else would cost tokens.
    struct Lists(Arc<AtomicUsize>);

    impl Provider for Lists {
        fn call<'a>(&'a self, call: &'a Call) -> BoxFuture<'a, Result<Reply>> {
            assert_eq!(call.operation, Operation::Models);
            self.0.fetch_add(1, Ordering::Relaxed);
            let models = vec![ModelInfo { id: "m".into(), ..ModelInfo::default() }];
            Box::pin(async { Ok(Reply::of(Frame::Models(models))) })
        }

        fn serves(&self) -> Operations {
            Operations::CHAT | Operation::Models.into()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_well_is_asked_for_its_models_every_fifteen_seconds_and_for_nothing_else() {
        let asked = Arc::<AtomicUsize>::default();
        let gateway = Gateway::of(Arc::new(Lists(asked.clone()))).unwrap();
        let _ = tokio::time::timeout(Duration::from_secs(600), gateway.run()).await;
        let asked = asked.load(Ordering::Relaxed);
        assert!((40..=42).contains(&asked), "{asked}");
    }
}
