//! How much later an answer comes through a proxy, at a pace that leaves the machine mostly idle.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;

use super::cost::median;
use super::proxies::{KEY, Proxies, Proxy};
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
    let plan = Plan { every: EVERY, ..Plan::lasting(LASTS) };
    let ways = [&proxies.upstream, &proxies.nginx, &proxies.subject];
    let mut latencies = Vec::new();
    for (name, body) in [("small chat", case::small()), ("37 KB chat", conversation::model_first())] {
        let question = Arc::new(question(&proxies.upstream, &body).await?);
        latencies.extend(compare(&ways, name, &question, plan).await?);
    }
    Ok(latencies)
}

/// How much later than the upstream itself the subject answers a small chat, in microseconds: 16 a second, so that
/// slow ones are measured idle too.
pub(super) async fn added(proxies: &Proxies) -> Result<f64> {
    let plan = Plan { every: EVERY * 62, ..Plan::lasting(LASTS) };
    let question = Arc::new(question(&proxies.upstream, &case::small()).await?.in_other_words());
    let latencies = compare(&[&proxies.upstream, &proxies.subject], "", &question, plan).await?;
    Ok(latencies[1].half - latencies[0].half)
}

async fn question(upstream: &Proxy, body: &str) -> Result<Question> {
    Question::learn(upstream.address, post("/v1/chat/completions", Some(KEY), body.as_bytes())).await
}

async fn compare(ways: &[&Proxy], name: &str, question: &Arc<Question>, plan: Plan) -> Result<Vec<Latency>> {
    let mut times = vec![(Vec::new(), Vec::new()); ways.len()];
    for _ in 0..RUNS {
        for (way, (halves, mosts)) in ways.iter().zip(&mut times) {
            let report = Clients::connect(way.address, CLIENTS).await?.run(question, plan).await?;
            halves.push(report.within(0.5).as_secs_f64() * 1e6);
            mosts.push(report.within(0.99).as_secs_f64() * 1e6);
        }
    }
    let latency = |(way, (halves, mosts)): (&&Proxy, &(Vec<f64>, Vec<f64>))| Latency {
        name: format!("{name}, {}", way.name),
        half: median(halves),
        most: median(mosts),
    };
    Ok(ways.iter().zip(&times).map(latency).collect())
}
