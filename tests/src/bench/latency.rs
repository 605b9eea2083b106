//! How much later an answer comes through a proxy, at a pace that leaves the machine mostly idle.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;

use super::cost::median;
use super::proxies::{KEY, Proxies};
use super::{case, conversation};
use crate::load::{Clients, Plan, Question, post};

/// The median over the runs, in microseconds.
pub(super) struct Latency {
    pub name: String,
    pub half: f64,
    pub most: f64,
}

/// 16 clients ask 1,000 times a second together.
const CLIENTS: usize = 16;
const EVERY: Duration = Duration::from_millis(16);
const LASTS: Duration = Duration::from_secs(2);
const RUNS: usize = 3;

pub(super) async fn measure(proxies: &Proxies) -> Result<Vec<Latency>> {
    let mut latencies = Vec::new();
    for (name, body) in [("small chat", case::small()), ("37 KB chat", conversation::model_first())] {
        let request = post("/v1/chat/completions", Some(KEY), body.as_bytes());
        let question = Arc::new(Question::learn(proxies.upstream.address, request).await?);
        latencies.extend(compare(proxies, name, &question).await?);
    }
    Ok(latencies)
}

async fn compare(proxies: &Proxies, name: &str, question: &Arc<Question>) -> Result<Vec<Latency>> {
    let plan = Plan { every: EVERY, ..Plan::lasting(LASTS) };
    let ways = [&proxies.upstream, &proxies.nginx, &proxies.subject];
    let mut times = [const { (Vec::new(), Vec::new()) }; 3];
    for _ in 0..RUNS {
        for (way, (halves, mosts)) in ways.iter().zip(&mut times) {
            let report = Clients::connect(way.address, CLIENTS).await?.run(question, plan).await?;
            halves.push(report.within(0.5).as_secs_f64() * 1e6);
            mosts.push(report.within(0.99).as_secs_f64() * 1e6);
        }
    }
    let latency = |(way, (halves, mosts)): (&&super::proxies::Proxy, &(Vec<f64>, Vec<f64>))| Latency {
        name: format!("{name}, {}", way.name),
        half: median(halves),
        most: median(mosts),
    };
    Ok(ways.iter().zip(&times).map(latency).collect())
}
