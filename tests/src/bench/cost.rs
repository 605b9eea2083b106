//! CPU time for each request or chunk, two servers by turns, so that no drift of the machine favours either.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};

use super::Options;
use super::case::Case;
use super::proxies::{KEY, Proxy};
use crate::load::{Clients, Plan, Question, post};

/// Microseconds of CPU, one figure a run.
#[derive(Debug, Clone, Default)]
pub(super) struct Cost {
    /// Of the one to compare with: nginx, for the most part.
    pub base: Vec<f64>,
    pub subject: Vec<f64>,
}

/// Who is compared, and the upstream behind both.
#[derive(Clone, Copy)]
pub(super) struct Pair<'a> {
    pub upstream: &'a Proxy,
    pub base: &'a Proxy,
    pub subject: &'a Proxy,
}

impl Cost {
    /// How many times the other's cost, run by run: what slows the machine slows both in the same run.
    pub(super) fn ratio(&self) -> f64 {
        let ratios: Vec<f64> = self.subject.iter().zip(&self.base).map(|(subject, base)| subject / base).collect();
        median(&ratios)
    }
}

pub(super) fn median(figures: &[f64]) -> f64 {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

pub(super) async fn measure(pair: Pair<'_>, cases: &[Case], options: &Options) -> Result<Vec<Cost>> {
    let mut costs = vec![Cost::default(); cases.len()];
    let questions = learn(pair.upstream, cases).await?;
    let mut dice = fastrand::Rng::with_seed(options.seed);
    for round in 1..=options.runs() {
        eprintln!("round {round} of {}", options.runs());
        let mut order: Vec<usize> = (0..cases.len()).collect();
        dice.shuffle(&mut order);
        for turn in order {
            let (case, cost) = (&cases[turn], &mut costs[turn]);
            let [base, subject] = once(pair, case, &questions[turn], &mut dice).await.context(case.name.clone())?;
            cost.base.push(base);
            cost.subject.push(subject);
        }
    }
    Ok(costs)
}

/// The right answers are those of the upstream asked directly.
async fn learn(upstream: &Proxy, cases: &[Case]) -> Result<Vec<Arc<Question>>> {
    let mut questions = Vec::new();
    for case in cases {
        let request = post("/v1/chat/completions", Some(KEY), &case.body);
        let question = Question::learn(upstream.address, request).await?;
        questions.push(Arc::new(if case.is_exact { question } else { question.in_other_words() }));
    }
    Ok(questions)
}

/// One run of a case: both in slices by turns, the first of each pair by chance.
async fn once(pair: Pair<'_>, case: &Case, question: &Arc<Question>, dice: &mut fastrand::Rng) -> Result<[f64; 2]> {
    let mut sides = [Side::warm(pair.base, case, question).await?, Side::warm(pair.subject, case, question).await?];
    for _ in 0..case.slices {
        let first = dice.usize(..2);
        sides[first].slice(case, question).await?;
        sides[1 - first].slice(case, question).await?;
    }
    let [base, subject] = &sides;
    Ok([base.cost(question)?, subject.cost(question)?])
}

/// A proxy in a run. Its CPU counts in the other's slices too: what it puts off is not forgiven.
struct Side<'a> {
    proxy: &'a Proxy,
    clients: Clients,
    before: Duration,
    answered: usize,
}

impl<'a> Side<'a> {
    async fn warm(proxy: &'a Proxy, case: &Case, question: &Arc<Question>) -> Result<Side<'a>> {
        let mut clients = Clients::connect(proxy.address, case.connections).await?;
        clients.run(question, Plan::lasting(Duration::from_millis(100))).await.context(proxy.name.clone())?;
        Ok(Side { proxy, clients, before: proxy.cpu()?, answered: 0 })
    }

    async fn slice(&mut self, case: &Case, question: &Arc<Question>) -> Result<()> {
        let report = self.clients.run(question, Plan::lasting(case.slice)).await;
        self.answered += report.context(self.proxy.name.clone())?.answered();
        Ok(())
    }

    fn cost(&self, question: &Question) -> Result<f64> {
        let spent = self.proxy.cpu()? - self.before;
        Ok(spent.as_secs_f64() * 1e6 / (self.answered * question.events().max(1)) as f64)
    }
}
