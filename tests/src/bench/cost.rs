//! CPU time for each request or chunk, every case and proxy in random order, so that no drift favours either.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};

use super::Options;
use super::case::Case;
use super::proxies::{KEY, Proxies, Proxy};
use crate::load::{Clients, Plan, Question, post};

/// Microseconds of CPU, one figure a run.
#[derive(Debug, Clone, Default)]
pub(super) struct Cost {
    pub nginx: Vec<f64>,
    pub subject: Vec<f64>,
}

impl Cost {
    /// How many times nginx's cost, by the medians.
    pub(super) fn ratio(&self) -> f64 {
        median(&self.subject) / median(&self.nginx)
    }
}

pub(super) fn median(figures: &[f64]) -> f64 {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

pub(super) async fn measure(proxies: &Proxies, cases: &[Case], options: &Options) -> Result<Vec<Cost>> {
    let mut costs = vec![Cost::default(); cases.len()];
    let questions = learn(proxies, cases).await?;
    let mut dice = fastrand::Rng::with_seed(options.seed);
    for round in 1..=options.runs() {
        eprintln!("round {round} of {}", options.runs());
        let mut order: Vec<usize> = (0..2 * cases.len()).collect();
        dice.shuffle(&mut order);
        for turn in order {
            let (case, cost) = (&cases[turn / 2], &mut costs[turn / 2]);
            let pair = [(&proxies.nginx, &mut cost.nginx), (&proxies.subject, &mut cost.subject)];
            let (proxy, figures) = pair.into_iter().nth(turn % 2).expect("two proxies");
            figures.push(
                once(proxy, case, &questions[turn / 2])
                    .await
                    .with_context(|| format!("{}: {}", proxy.name, case.name))?,
            );
        }
    }
    Ok(costs)
}

/// The right answers are those of the upstream asked directly.
async fn learn(proxies: &Proxies, cases: &[Case]) -> Result<Vec<Arc<Question>>> {
    let mut questions = Vec::new();
    for case in cases {
        let request = post("/v1/chat/completions", Some(KEY), &case.body);
        questions.push(Arc::new(Question::learn(proxies.upstream.address, request).await?));
    }
    Ok(questions)
}

async fn once(proxy: &Proxy, case: &Case, question: &Arc<Question>) -> Result<f64> {
    let mut clients = Clients::connect(proxy.address, case.connections).await?;
    clients.run(question, Plan::lasting(Duration::from_millis(100))).await?;
    let before = proxy.cpu()?;
    let report = clients.run(question, Plan::lasting(case.lasts)).await?;
    let spent = proxy.cpu()? - before;
    let units = report.answered() * question.events().max(1);
    Ok(spent.as_secs_f64() * 1e6 / units as f64)
}
