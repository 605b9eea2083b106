//! Mixed traffic against upstreams that misbehave: nothing hangs, nothing leaks, nothing is lost.
//!
//! `LLM_SOAK_S` says for how long, `LLM_SOAK_SEED` what is asked (the clocks of two runs still differ). Some seconds in
//! `make test`, five minutes in `make test-long`, an hour in `make soak`. A process of its own, for its files are counted and
//! its memory is weighed.

mod client;
mod counts;
mod question;

use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use llm_tests::house::House;
use llm_tests::http;
use llm_tests::load::resident;
use llm_tests::upstream::Upstream;

use client::Client;
use counts::Counts;

const CLIENTS: u64 = 32;
/// Calls of a model that may run at once.
const LIMIT: usize = 12;
/// Longer than anything may take.
const PATIENCE: Duration = Duration::from_secs(20);
/// Between the highest of the second half and of the first. What lives at once differs by as many bodies as there are clients
/// (a MiB or two), and allocators keep some of each thread's; a leak of a kilobyte a question is that much in ten seconds.
const GROWTH: u64 = 16 << 20;
/// Connections that are kept for the next question: two ends each, for both runtimes and all deployments, and a client's.
const KEPT: usize = 16;

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().and_then(|number| number.parse().ok())
}

fn lasts() -> Duration {
    let usual = if number("LLM_TEST_FACTOR").is_some_and(|factor| factor > 1) { 300 } else { 12 };
    Duration::from_secs(number("LLM_SOAK_S").unwrap_or(usual))
}

/// Two models: one with two deployments, so that another can step in, and one with none to spare. More clients than places.
fn house(upstreams: &[Upstream; 2]) -> House {
    let [one, other] = upstreams
        .each_ref()
        .map(|upstream| format!("provider = 'vllm'\nmodel = 'tiny'\nbase_url = '{}'\n", upstream.url()));
    House::of(&format!(
        "timeout = {{ first_s = 0.2, idle_s = 0.2 }}\nretry = {{ max_retries = 1, wait_ms = 5, longest_wait_ms = 100 }}\n\
         queue = {{ limit = {LIMIT}, waiting = 6 }}\nhealth = {{ canary = false }}\n\
         [models.solo]\n{one}[models.pair]\n[[models.pair.deployments]]\n{one}[[models.pair.deployments]]\n{other}"
    ))
}

fn open_files() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_hangs_leaks_or_is_lost_while_upstreams_misbehave() {
    let (lasts, seed) = (lasts(), number("LLM_SOAK_SEED").unwrap_or_else(|| fastrand::u64(..1_000_000)));
    say(&format!("soak: {} s with LLM_SOAK_SEED={seed}", lasts.as_secs()));
    let upstreams = [Upstream::start().await.unwrap(), Upstream::start().await.unwrap()];
    let house = Arc::new(house(&upstreams));
    ask(&house).await;
    let files = open_files();

    let (mut counts, weights) = tokio::join!(run(&house, seed, Instant::now() + lasts), weigh(lasts));
    counts.check(&scrape(&house).await);
    settles(&house, &upstreams, files).await;
    let [before, after] = weights;
    say(&format!(
        "soak: {counts}; files {files} before and {} after; at most {} MiB in the first half, {} in the second",
        open_files(),
        before >> 20,
        after >> 20
    ));
    assert!(after < before + GROWTH, "it grew from {before} to {after} bytes");
}

async fn run(house: &Arc<House>, seed: u64, until: Instant) -> Counts {
    let clients = (0..CLIENTS).map(|number| tokio::spawn(Client::new(house.address(), seed, number).run(until)));
    let mut counts = Counts::default();
    for client in clients.collect::<Vec<_>>() {
        counts.add(&client.await.expect("a client was told what it should not be"));
    }
    counts
}

/// The highest weight of each half; the first eighth is for warming up.
async fn weigh(lasts: Duration) -> [u64; 2] {
    let (began, mut most) = (Instant::now(), [0; 2]);
    let mut clock = tokio::time::interval(lasts / 64);
    while began.elapsed() < lasts {
        clock.tick().await;
        let weight = resident(std::process::id()).unwrap();
        match began.elapsed().as_secs_f64() / lasts.as_secs_f64() {
            ..0.125 => {}
            ..0.5 => most[0] = weight.max(most[0]),
            _ => most[1] = weight.max(most[1]),
        }
    }
    most
}

/// All turns are free, no upstream still works for somebody who has gone, and connections that nobody needs are closed.
async fn settles(house: &House, upstreams: &[Upstream; 2], files: usize) {
    let since = Instant::now();
    let is_busy = || house.gateway.models().iter().any(|model| model.running + model.waiting > 0);
    while is_busy() {
        assert!(since.elapsed() < PATIENCE, "turns are still taken: {:?}", house.gateway.models());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // A turn that was lost is missed by those who come together.
    let together = (0..LIMIT).map(|_| async { question(house).await.headers().contains_key("x-queue-position") });
    let waited = futures_util::future::join_all(together).await;
    assert!(waited.iter().all(|waited| !waited), "turns were lost: {waited:?}");
    for upstream in upstreams {
        let tally = upstream.seen().until(PATIENCE, |tally| tally.open == 0).await.expect("it still answers somebody");
        assert_eq!(tally.arrived, tally.answered + tally.left);
    }
    while open_files() > files + KEPT {
        assert!(since.elapsed() < PATIENCE, "{} files are open, and {files} were before", open_files());
        tokio::time::sleep(Duration::from_millis(250)).await;
        ask(house).await; // idle connections are looked at when one is needed
    }
}

/// A question that nothing goes wrong with, on a connection of its own.
async fn ask(house: &House) {
    let _ = question(house).await.bytes().await;
}

async fn question(house: &House) -> reqwest::Response {
    let body = r#"{"model":"solo","messages":[{"role":"user","content":"?"}],"user":"first_ms=50"}"#;
    http::client().post(house.url() + "/v1/chat/completions").body(body).send().await.unwrap()
}

async fn scrape(house: &House) -> String {
    http::client().get(house.url() + "/metrics").send().await.unwrap().text().await.unwrap()
}

/// Past the capture of the test runner, so that it is seen of a run that went well too.
fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}
