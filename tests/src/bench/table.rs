//! The figures, for people and for a note in the changelog.

use super::case::Case;
use super::cost::{Cost, median};
use super::latency::Latency;
use super::memory::Memory;

/// 10,000 requests may leave so much: what allocators and page tables need to settle.
const GROWTH: u64 = 4 << 20;

/// Prints a line for each case and says whether all gates hold.
pub(super) fn costs(cases: &[Case], costs: &[Cost]) -> bool {
    println!("\n{:48} {:>18} {:>18} {:>6}  gate", "CPU, us: median (range)", "nginx", "gateway", "ratio");
    let verdicts = cases.iter().zip(costs).map(|(case, cost)| {
        let (ratio, holds) = (cost.ratio(), cost.ratio() <= case.gate);
        let verdict = if holds { "" } else { "  TOO MUCH" };
        let (nginx, subject) = (figures(&cost.nginx), figures(&cost.subject));
        println!("{:48} {nginx:>18} {subject:>18} {ratio:>6.2}  {:.1}{verdict}", case.name, case.gate);
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
    let flat = memory.later <= memory.loaded + GROWTH;
    let [nginx, idle, loaded, later] = [memory.nginx, memory.idle, memory.loaded, memory.later].map(megabytes);
    let verdict = if flat { "" } else { "  NOT FLAT" };
    println!("\nresident memory, MB: nginx {nginx:.1}; gateway {idle:.1} idle, {loaded:.1} after the load,");
    println!("{later:.1} after 10,000 requests more{verdict}");
    flat
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
            slices: 1,
            slice: Duration::ZERO,
        };
        let cases = [case(), case()];
        let cost = |subject: f64| Cost { nginx: vec![9.0, 10.0, 30.0], subject: vec![0.0, subject, 90.0] };
        assert!(costs(&cases, &[cost(15.0), cost(10.0)]));
        assert!(!costs(&cases, &[cost(15.1), cost(10.0)]));
    }

    #[test]
    fn memory_that_grows_with_requests_fails_the_bench() {
        let after = |later| Memory { nginx: 20 << 20, idle: 5 << 20, loaded: 11 << 20, later };
        assert!(memory(&after(12 << 20)));
        assert!(!memory(&after(16 << 20)));
    }
}
