//! That it stops when it is left: in the middle of its answer, and before it has begun.
use std::pin::pin;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::{Either, select};

use super::{Kept, holds, told};
use crate::call::*;
use crate::testkit::Subject;

/// A busy machine may be late to see its work or its end, but not always.
const TRIES: usize = 3;

pub(super) async fn in_the_middle(subject: &Subject<'_>) -> Kept {
    let (Some(running), Some(long)) = (&subject.running, &subject.long) else { return Ok(()) };
    let mut best = None;
    for _ in 0..TRIES {
        let call = subject.call(long, Delivery::Stream);
        let mut events = subject.provider.call(&call).await.map_err(told)?.events();
        let first = events.next().await.ok_or("an empty stream")?;
        first.map_err(told)?;
        let runs = running() > 0;
        drop(events);
        best = sooner(best, runs, subject.stops(running).await);
    }
    stopped(subject, best.ok_or("its long answer was over at once, so there is no middle to leave it in")?)
}

pub(super) async fn at_once(subject: &Subject<'_>) -> Kept {
    let (Some(running), Some(long)) = (&subject.running, &subject.long) else { return Ok(()) };
    let mut best = None;
    for _ in 0..TRIES {
        let call = subject.call(long, Delivery::Whole);
        let mut answer = subject.provider.call(&call);
        let (begun, runs) = begins(&mut answer, running).await; // a reply that is there already is work under way, too
        drop((answer, begun));
        best = sooner(best, runs, subject.stops(running).await);
    }
    stopped(subject, best.ok_or("its long answer never began, or was over at once")?)
}

/// Only what was seen to run can be seen to stop.
fn sooner(best: Option<Duration>, runs: bool, took: Duration) -> Option<Duration> {
    best.into_iter().chain(runs.then_some(took)).min()
}

fn stopped(subject: &Subject<'_>, took: Duration) -> Kept {
    holds(took <= subject.stops_within, || format!("it went on for {took:?}"))
}

/// Drives a call until its work runs, or it has answered; tells whether it was seen to run.
async fn begins<T>(answer: &mut BoxFuture<'_, T>, running: &(dyn Fn() -> usize + Send + Sync)) -> (Option<T>, bool) {
    let runs = async {
        for _ in 0..1_000 {
            if running() > 0 {
                return true;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        false
    };
    match select(answer, pin!(runs)).await {
        Either::Left((answer, _)) => (Some(answer), running() > 0),
        Either::Right((runs, _)) => (None, runs),
    }
}
