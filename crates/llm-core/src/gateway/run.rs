//! What goes on beside the calls: models are loaded, in order, and deployments are asked how they are.
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::time::{Instant, MissedTickBehavior, interval, interval_at};

use super::Gateway;
use crate::call::LifeStatus;
use crate::route::{Deployment, Model, Status};

/// How often those that are not well are asked; asking for the models costs no token.
const PROBE_SICK: Duration = Duration::from_secs(1);
/// Those that are well are asked every so many rounds.
const ROUNDS_WELL: u64 = 15;
/// How often the log is told how far a load is.
const TELLS_PROGRESS: Duration = Duration::from_secs(2);
/// What failed is loaded again after a pause that doubles each time: its file may come late, or memory be free again.
const FIRST_PAUSE: Duration = Duration::from_secs(2);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

impl Gateway {
    /// Loads what must be loaded, one after the other and the default model first, loads again what failed, and keeps
    /// asking deployments how they are. Runs until it is dropped; the doors own it.
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
        let mut failures = Failures::default();
        loop {
            clock.tick().await; // a reload may bring new ones
            let mut is_due = |deployment: &Arc<Deployment>| {
                deployment.provider.life().is_some_and(|life| failures.is_due(&deployment.name, &life.status()))
            };
            // One in each round: a load takes minutes, and a reload may have taken the others away.
            let Some(deployment) = self.deployments().into_iter().find(&mut is_due) else { continue };
            tokio::select! {
                () = load(&deployment) => {}
                () = self.is_gone(&deployment) => tracing::info!(deployment = deployment.name, "no longer wanted"),
            }
        }
    }

    /// Waits until a reload has taken it away: nobody wants it to be loaded then.
    async fn is_gone(&self, deployment: &Arc<Deployment>) {
        while self.deployments().iter().any(|one| Arc::ptr_eq(one, deployment)) {
            tokio::time::sleep(Duration::from_millis(200)).await;
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
                    let is_well = |d: &Deployment| d.is_drained() || d.status() == Status::Ready;
                    let due = |d: &Arc<Deployment>| round.is_multiple_of(ROUNDS_WELL) || !is_well(d);
                    let remote = self.deployments().into_iter().filter(|d| d.provider.life().is_none()).filter(due);
                    probes.extend(remote.filter(|d| !d.is_being_probed()).map(probe));
                    round += 1;
                }
                Some(()) = probes.next() => {}
            }
        }
    }

    /// Those of the default model come first: it is what most callers wait for.
    fn deployments(&self) -> Vec<Arc<Deployment>> {
        let router = self.router();
        let is_default = |m: &Model| router.is_default(&m.name) || m.aliases.iter().any(|name| router.is_default(name));
        let mut models: Vec<&Arc<Model>> = router.models.iter().collect();
        models.sort_by_key(|model| !is_default(model));
        models.into_iter().flat_map(|model| model.deployments.clone()).collect()
    }
}

/// When those that failed are loaded again, by their names.
#[derive(Default)]
struct Failures(HashMap<String, Failure>);

struct Failure {
    pause: Duration,
    /// `None` while it is being loaded again.
    due: Option<Instant>,
}

impl Failures {
    /// Whether something in this state is to be loaded now. What is well, or was never loaded, has no past.
    fn is_due(&mut self, name: &str, status: &LifeStatus) -> bool {
        match status {
            LifeStatus::Loading(_) => false,
            LifeStatus::Failed(_) => self.has_paused(name),
            LifeStatus::Unloaded | LifeStatus::Ready { .. } => {
                self.0.remove(name);
                *status == LifeStatus::Unloaded
            }
        }
    }

    fn has_paused(&mut self, name: &str) -> bool {
        let now = Instant::now();
        let begins = |pause| Failure { pause, due: Some(now + pause) };
        let failure = self.0.entry(name.to_owned()).or_insert_with(|| begins(FIRST_PAUSE));
        match failure.due {
            Some(due) if due > now => return false,
            Some(_) => failure.due = None,
            None => *failure = begins((failure.pause * 2).min(LONGEST_PAUSE)),
        }
        failure.due.is_none()
    }
}

/// Loads one, and tells the log how far it is.
async fn load(deployment: &Deployment) {
    let Some(life) = deployment.provider.life() else { return };
    let deployment = &deployment.name;
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
    use crate::error::{Error, Kind, Result};
    use crate::provider;
    use std::sync::Mutex;
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

    /// Takes two seconds to load, or fails at once as often as it is told to.
    struct Slow {
        status: Mutex<LifeStatus>,
        failures: AtomicUsize,
        loads: AtomicUsize,
    }

    impl Slow {
        fn failing(times: usize) -> Arc<Slow> {
            let (failures, loads) = (times.into(), AtomicUsize::new(0));
            Arc::new(Slow { status: Mutex::new(LifeStatus::Unloaded), failures, loads })
        }

        fn is(&self, status: LifeStatus) {
            *self.status.lock().unwrap() = status;
        }

        fn loads(&self) -> usize {
            self.loads.load(Ordering::Relaxed)
        }
    }

    impl Life for Slow {
        fn load(&self) -> BoxFuture<'_, Result<()>> {
            Box::pin(async {
                self.loads.fetch_add(1, Ordering::Relaxed);
                if self.failures.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1)).is_ok() {
                    self.is(LifeStatus::Failed("no file".into()));
                    return Err(Error::new(Kind::NotFound, "no file"));
                }
                self.is(LifeStatus::Loading(0.0));
                tokio::time::sleep(Duration::from_secs(1)).await;
                self.is(LifeStatus::Loading(0.5));
                tokio::time::sleep(Duration::from_secs(1)).await;
                self.is(LifeStatus::Ready { max_model_len: 1 });
                Ok(())
            })
        }

        fn unload(&self) -> BoxFuture<'_, Result<()>> {
            Box::pin(async {
                self.is(LifeStatus::Unloaded);
                Ok(())
            })
        }

        fn status(&self) -> LifeStatus {
            self.status.lock().unwrap().clone()
        }
    }

    impl Provider for Slow {
        fn call<'a>(&'a self, _: &'a Call) -> BoxFuture<'a, Result<Reply>> {
            Box::pin(async {
                match self.status() {
                    LifeStatus::Ready { .. } => Ok(Reply::says("here")),
                    _ => Err(Error::new(Kind::Loading, "not yet")),
                }
            })
        }

        fn life(&self) -> Option<&dyn Life> {
            Some(self)
        }
    }

    const SLOW: provider::Kind = provider::Kind::new("slow", "loads slowly", |_| Ok(Slow::failing(0)));

    /// Watches while the gateway runs.
    async fn beside(gateway: &Gateway, watch: impl Future<Output = ()>) {
        tokio::select! {
            () = gateway.run() => unreachable!("it runs until it is dropped"),
            () = watch => {}
        }
    }

    async fn seconds(n: f32) {
        tokio::time::sleep(Duration::from_secs_f32(n)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn the_default_model_is_loaded_first_and_serves_while_the_next_is_being_loaded() {
        let slow = ["a", "b", "c"].map(|name| format!("[models.{name}]\nprovider = 'slow'\n")).concat();
        let config = crate::gateway::Config::from_toml(&format!("default_model = 'b'\n{slow}")).unwrap();
        let gateway = Gateway::with(&config, &[SLOW], Arc::new(())).unwrap();
        // The list too has the default one first.
        let shown = || gateway.models().iter().map(|m| (m.id.clone(), m.status, m.progress)).collect::<Vec<_>>();
        let told = |b, a, c| {
            let all: [(&'static str, Option<f32>); 3] = [b, a, c];
            let named = ["b", "a", "c"].into_iter().zip(all);
            named.map(|(id, (status, progress))| (id.to_owned(), status, progress)).collect::<Vec<_>>()
        };
        let (unknown, ready) = (("unknown", None), ("ready", None));
        let (begun, half) = (("loading", Some(0.0)), ("loading", Some(0.5)));
        let says = async |model: &str| {
            let call = Call::new(ChatRequest::new("?").model(model), Delivery::Whole);
            gateway.call(&call).await?.chat().await
        };
        let watch = async {
            seconds(0.5).await;
            assert_eq!(shown(), told(begun, unknown, unknown));
            seconds(1.0).await;
            assert_eq!(shown(), told(half, unknown, unknown));
            seconds(1.0).await;
            assert_eq!(shown(), told(ready, begun, unknown));
            assert_eq!(says("b").await.unwrap().text, "here");
            seconds(2.0).await;
            assert_eq!(shown(), told(ready, ready, begun));
            seconds(2.0).await;
            assert_eq!(shown(), told(ready, ready, ready));
        };
        beside(&gateway, watch).await;
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_reload_takes_away_is_loaded_no_further_and_the_others_are_not_begun() {
        let config = |names: &[&str]| {
            let text: String = names.iter().map(|name| format!("[models.{name}]\nprovider = 'slow'\n")).collect();
            crate::gateway::Config::from_toml(&text).unwrap()
        };
        let gateway = Gateway::with(&config(&["a", "b", "c"]), &[SLOW], Arc::new(())).unwrap();
        let before = gateway.router();
        let status = |at: usize| before.models[at].deployments[0].provider.life().unwrap().status();
        let watch = async {
            seconds(0.5).await;
            assert_eq!(status(0), LifeStatus::Loading(0.0));
            gateway.reload(&config(&["c"])).unwrap();
            seconds(3.0).await;
            let loaded = LifeStatus::Ready { max_model_len: 1 };
            assert_eq!([status(0), status(1), status(2)], [LifeStatus::Loading(0.0), LifeStatus::Unloaded, loaded]);
        };
        beside(&gateway, watch).await;
    }

    #[tokio::test(start_paused = true)]
    async fn what_could_not_be_loaded_is_tried_again_after_growing_pauses() {
        let slow = Slow::failing(3);
        let gateway = Gateway::of(slow.clone()).unwrap();
        let watch = async {
            for (after, loads) in [(1.0, 1), (2.0, 2), (2.0, 2), (2.5, 3), (6.0, 3), (4.0, 4)] {
                seconds(after).await;
                assert_eq!(slow.loads(), loads);
            }
            seconds(2.0).await;
            assert_eq!(slow.status(), LifeStatus::Ready { max_model_len: 1 });
            // It was well since: the first pause is the shortest again.
            slow.is(LifeStatus::Failed("its thread panicked".into()));
            seconds(1.0).await;
            assert_eq!(slow.loads(), 4);
            seconds(2.0).await;
            assert_eq!(slow.loads(), 5);
        };
        beside(&gateway, watch).await;
    }

    #[tokio::test(start_paused = true)]
    async fn what_fails_for_ever_is_tried_about_once_a_minute() {
        let slow = Slow::failing(usize::MAX);
        let gateway = Gateway::of(slow.clone()).unwrap();
        beside(&gateway, seconds(600.0)).await;
        assert!((12..=15).contains(&slow.loads()), "{}", slow.loads());
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
