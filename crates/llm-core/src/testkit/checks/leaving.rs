//! That it stops when it is left: in the middle of its answer, and before it has begun.
use std::pin::pin;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::{Either, select};

use super::{Kept, holds, told};
use crate::call::*;
use crate::testkit::Subject;

pub(super) async fn in_the_middle(subject: &Subject<'_>) -> Kept {
    let (Some(running), Some(long)) = (&subject.running, &subject.long) else { return Ok(()) };
    let mut best = Duration::MAX;
    for _ in 0..3 {
        let call = subject.call(long, Delivery::Stream);
        let mut events = subject.provider.call(&call).await.map_err(told)?.events();
        let first = events.next().await.ok_or("an empty stream")?;
        first.map_err(told)?;
        holds(running() > 0, || "its long answer was over at once, so there is no middle to leave it in".into())?;
        drop(events);
        best = best.min(subject.stops(running).await); // a busy machine may be late, but not always
    }
    holds(best <= subject.stops_within, || format!("it went on for {best:?}"))
}

pub(super) async fn at_once(subject: &Subject<'_>) -> Kept {
    let (Some(running), Some(long)) = (&subject.running, &subject.long) else { return Ok(()) };
    let mut best = Duration::MAX;
    for _ in 0..3 {
        let call = subject.call(long, Delivery::Whole);
        let mut answer = subject.provider.call(&call);
        let begun = begins(&mut answer, running).await; // a reply that is there already is work under way, too
        holds(running() > 0, || "its long answer never began, or was over at once".into())?;
        drop((answer, begun));
        best = best.min(subject.stops(running).await);
    }
    holds(best <= subject.stops_within, || format!("it went on for {best:?}"))
}

/// Drives a call until its work runs, or it has answered.
async fn begins<T>(answer: &mut BoxFuture<'_, T>, running: &(dyn Fn() -> usize + Send + Sync)) -> Option<T> {
    let runs = async {
        for _ in 0..1_000 {
            if running() > 0 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    match select(answer, pin!(runs)).await {
        Either::Left((answer, _)) => Some(answer),
        Either::Right(_) => None,
    }
}
