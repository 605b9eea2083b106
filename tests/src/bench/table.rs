//! The figures, for people and for a note in the changelog.

use super::behaviour;
use super::case::Case;
use super::cost::{Cost, median};
use super::crowd::Weight;
use super::latency::Latency;
use super::memory::Memory;
use super::peers::Figures;

/// 10,000 requests may leave so much: what allocators and page tables need to settle.
const GROWTH: u64 = 4 << 20;
/// What a server without an engine's model may weigh before anybody asks it.
const MOST_IDLE: u64 = 40 << 20;
/// What a server with open streams may weigh, and each of them: 8,000 stay below 320 MB.
const IDLE: u64 = 24 << 20;
const STREAM: u64 = 37 << 10;

/// Prints a line for each case and says whether all gates hold.
pub(super) fn costs(base: &str, cases: &[Case], costs: &[Cost]) -> bool {
    println!("\n{:48} {base:>18} {:>18} {:>6}  gate", "CPU, us: median (range)", "gateway", "ratio");
    let verdicts = cases.iter().zip(costs).map(|(case, cost)| {
        let (ratio, holds) = (cost.ratio(), cost.ratio() <= case.gate);
        let verdict = if holds { "" } else { "  TOO MUCH" };
        let (base, subject) = (figures(&cost.base), figures(&cost.subject));
        println!("{:48} {base:>18} {subject:>18} {ratio:>6.2}  {:.2}{verdict}", case.name, case.gate);
        holds
    });
    verdicts.fold(true, |all, holds| all & holds)
}

fn figures(runs: &[f64]) -> String {
    let (low, high) = runs.iter().fold((f64::MAX, f64::MIN), |(low, high), run| (low.min(*run), high.max(*run)));
    format!("{} ({}-{})", short(median(runs)), short(low), short(high))
}

/// Three digits that matter.
fn short(figure: f64) -> String {
    if figure < 10.0 { format!("{figure:.2}") } else { format!("{figure:.1}") }
}

/// Prints how soon answers came.
pub(super) fn latencies(latencies: &[Latency]) {
    println!("\n{:48} {:>8} {:>8}", "latency at 1,000 requests/s, us", "p50", "p99");
    for latency in latencies {
        println!("{:48} {:>8.0} {:>8.0}", latency.name, latency.half, latency.most);
    }
}

/// Prints the memory and says whether it stayed flat.
pub(super) fn memory(memory: &Memory) -> bool {
    let flat = memory.later <= memory.loaded + GROWTH && memory.idle <= MOST_IDLE;
    let [nginx, idle, loaded, later] = [memory.nginx, memory.idle, memory.loaded, memory.later].map(megabytes);
    let verdict = if flat { "" } else { "  NOT FLAT, OR TOO MUCH" };
    println!("\nresident memory, MB: nginx {nginx:.1}; gateway {idle:.1} idle, {loaded:.1} after the load,");
    println!("{later:.1} after 10,000 requests more{verdict}");
    flat
}

/// Prints what open streams weigh and says whether that is little enough.
pub(super) fn weight(weight: &Weight) -> bool {
    let gate = IDLE + weight.streams as u64 * STREAM;
    let holds = weight.open <= gate;
    let [idle, open, gate] = [weight.idle, weight.open, gate].map(megabytes);
    let each = weight.open.saturating_sub(weight.idle) as f64 / weight.streams as f64 / 1024.0;
    let verdict = if holds { "" } else { "  TOO MUCH" };
    println!(
        "resident with {} open streams, MB: {open:.1}, {idle:.1} of it idle; {each:.1} KB each; gate {gate:.0}{verdict}",
        weight.streams
    );
    holds
}

/// Prints what other gateways cost.
pub(super) fn peers(measured: &[Figures]) {
    let Some(first) = measured.first() else { return };
    let cases =
        first.costs.iter().map(|(case, _)| format!("{:>22}", case.replace(", 16 connections", ""))).collect::<String>();
    println!("\n{:14}{cases} {:>8} {:>9}", "CPU, us (/nginx)", "RSS, MB", "added, us");
    for figures in measured {
        let costs =
            figures.costs.iter().map(|(_, cost)| format!("{:>22}", peer(cost.as_ref().ok()))).collect::<String>();
        let latency = figures.latency.as_ref().map_or("?".into(), |added| format!("{added:.0}"));
        println!("{:16}{costs} {:>8.1} {latency:>9}", figures.name, megabytes(figures.resident));
        let failed = figures.costs.iter().filter_map(|(case, cost)| Some((case, cost.as_ref().err()?)));
        failed.for_each(|(case, error)| println!("  {case}: {error:#}"));
    }
}

fn peer(cost: Option<&Cost>) -> String {
    cost.map_or("not done".into(), |cost| format!("{} ({:.2})", short(median(&cost.subject)), cost.ratio()))
}

/// Prints what each gateway did.
pub(super) fn behaviour(gateways: &[(String, Vec<String>)]) {
    let width = |words: &[String]| words.iter().map(String::len).max().unwrap_or(0) + 2;
    let columns: Vec<usize> = gateways.iter().map(|(name, words)| width(words).max(name.len() + 2)).collect();
    let names: String = gateways.iter().zip(&columns).map(|((name, _), &width)| format!("{name:width$}")).collect();
    println!("\n{:52}{names}", "behaviour");
    for (line, what) in behaviour::LINES.iter().enumerate() {
        let words: String =
            gateways.iter().zip(&columns).map(|((_, words), &width)| format!("{:width$}", words[line])).collect();
        println!("{what:52}{words}");
    }
}

fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn one_case_above_its_gate_fails_the_bench() {
        let case = || Case {
            name: String::new(),
            body: Vec::new(),
            connections: 1,
            gate: 1.5,
            is_exact: true,
            slices: 1,
            slice: Duration::ZERO,
        };
        let cases = [case(), case()];
        let cost = |subject: f64| Cost { base: vec![9.0, 10.0, 30.0], subject: vec![0.0, subject, 90.0] };
        assert!(costs("nginx", &cases, &[cost(15.0), cost(10.0)]));
        assert!(!costs("nginx", &cases, &[cost(15.1), cost(10.0)]));
    }

    #[test]
    fn streams_that_weigh_too_much_fail_the_bench() {
        let with = |open| Weight { streams: 8_000, idle: 19 << 20, open };
        assert!(weight(&with(300 << 20)));
        assert!(!weight(&with(320 << 20)));
    }

    #[test]
    fn memory_that_grows_with_requests_fails_the_bench() {
        let after = |later| Memory { nginx: 20 << 20, idle: 5 << 20, loaded: 11 << 20, later };
        assert!(memory(&after(12 << 20)));
        assert!(!memory(&after(16 << 20)));
    }
}
