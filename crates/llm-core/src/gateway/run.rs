//! What goes on beside the calls: models are loaded, in order, and deployments are asked how they are.
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::{MissedTickBehavior, interval};

use super::Gateway;
use crate::call::LifeStatus;
use crate::route::{Deployment, Status};

/// How often those that are not well are asked; asking for the models costs no token.
const PROBE_SICK: Duration = Duration::from_secs(1);
/// Those that are well are asked every so many rounds.
const ROUNDS_WELL: u64 = 15;

impl Gateway {
    /// Loads what must be loaded, one after the other, and keeps asking deployments how they are. Runs until it is
    /// dropped; the doors own it.
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
                if life.status() == LifeStatus::Unloaded
                    && let Err(error) = life.load().await
                {
                    tracing::error!(deployment = deployment.name, %error, "could not be loaded");
                }
            }
        }
    }

    async fn keep_probing(&self) {
        let mut clock = interval(PROBE_SICK);
        clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
        for round in 0u64.. {
            clock.tick().await;
            let due = |d: &Arc<Deployment>| round.is_multiple_of(ROUNDS_WELL) || d.status() != Status::Ready;
            let remote = self.deployments().into_iter().filter(|d| d.provider.life().is_none()).filter(due);
            join_all(remote.map(probe)).await;
        }
    }

    fn deployments(&self) -> Vec<Arc<Deployment>> {
        self.router().models.iter().flat_map(|m| m.deployments.clone()).collect()
    }
}

async fn probe(deployment: Arc<Deployment>) {
    let before = deployment.status();
    let answer = deployment.probe().await;
    let now = deployment.status();
    if now != before {
        tracing::info!(deployment = deployment.name, before = before.name(), now = now.name(), error = ?answer.err(), "status");
    }
}
