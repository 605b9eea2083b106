//! The line: its order, its limits, and what those in it are told.
use super::*;
use crate::provider::fake;
use futures_util::StreamExt;

fn queue(limit: usize, waiting: usize) -> Arc<Queue> {
    let fake = fake::Fake::new(fake::Config { says: "a b c".into(), each_ms: 10, ..Default::default() });
    let limits = Limits { running: limit, waiting, wait: None, fair: false };
    Arc::new(Queue { inner: Arc::new(fake), line: Arc::new(Line::new(limits)), limits })
}

fn ask_as(caller: &str) -> Call {
    ask().in_context(Context { caller: caller.into(), ..Context::default() })
}

#[tokio::test(start_paused = true)]
async fn where_it_is_fair_whoever_sends_many_waits_behind_whoever_sends_one() {
    let mut queue = Arc::into_inner(queue(1, 10)).unwrap();
    queue.line = Arc::new(Line::new(Limits { fair: true, ..queue.limits }));
    let mut running = queue.call(&ask_as("many")).await.unwrap();
    let calls: Vec<Call> = ["many", "many", "many", "one", "many", "two"].map(ask_as).into();
    let mut waiting: Vec<_> = calls.iter().map(|call| Some(queue.call(call))).collect();
    for future in waiting.iter_mut().flatten() {
        assert!(futures_util::poll!(future).is_pending());
    }
    let places = || calls.iter().map(|c| c.context.progress.borrow().place).collect::<Vec<_>>();
    // One of `many` runs already, so that its next is its second.
    assert_eq!(places(), [Some(3), Some(4), Some(5), Some(1), Some(6), Some(2)]);
    let mut came = Vec::new();
    while came.len() < calls.len() {
        drop(running);
        let mut called = None;
        for (i, place) in waiting.iter_mut().enumerate() {
            let Some(future) = place else { continue };
            if let std::task::Poll::Ready(reply) = futures_util::poll!(future) {
                (*place, called) = (None, Some(reply.unwrap()));
                came.push(i);
            }
        }
        running = called.expect("somebody was called");
    }
    assert_eq!(came, [3, 5, 0, 1, 2, 4]);
    drop(running);
    assert_eq!(queue.line.depth(), (0, 0));
    queue.call(&ask_as("new")).await.unwrap().chat().await.unwrap();
    assert!(queue.line.lock().fair.as_ref().unwrap().next.len() <= 2, "nobody is remembered for long");
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_longer_than_the_longest_wait() {
    let mut queue = Arc::into_inner(queue(1, 10)).unwrap();
    queue.limits.wait = Some(Duration::from_secs(5));
    let _running = queue.call(&ask()).await.unwrap();
    let since = tokio::time::Instant::now();
    let error = queue.call(&ask()).await.unwrap_err();
    assert_eq!((error.kind(), error.get_code()), (Kind::Overloaded, Some("queue_timeout")));
    assert_eq!((since.elapsed(), queue.line.depth()), (Duration::from_secs(5), (1, 0)));
    assert!(error.get_retry_after().is_some(), "{error}");
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_past_the_callers_deadline() {
    let mut queue = Arc::into_inner(queue(1, 10)).unwrap();
    let _running = queue.call(&ask()).await.unwrap();
    for max_wait in [None, Some(Duration::from_secs(60))] {
        queue.limits.wait = max_wait;
        let since = tokio::time::Instant::now();
        let deadline = Some((since + Duration::from_secs(3)).into_std());
        let late = ask().in_context(Context { deadline, ..Context::default() });
        let error = queue.call(&late).await.unwrap_err();
        assert_eq!((error.kind(), since.elapsed()), (Kind::Timeout, Duration::from_secs(3)));
        assert_eq!(queue.line.depth(), (1, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn the_time_to_wait_grows_with_the_line_and_with_what_a_turn_takes() {
    let queue = queue(2, 10);
    queue.line.lock().mean = Duration::from_secs(10);
    let _running = [queue.call(&ask()).await.unwrap(), queue.call(&ask()).await.unwrap()];
    let calls: Vec<Call> = (0..10).map(|_| ask()).collect();
    let mut waiting: Vec<_> = calls.iter().map(|call| queue.call(call)).collect();
    for future in &mut waiting {
        assert!(futures_util::poll!(future).is_pending());
    }
    let seconds = |i: usize| calls[i].context.progress.borrow().eta.unwrap().as_secs();
    assert_eq!((seconds(0), seconds(9)), (5, 50));
    let error = queue.call(&ask()).await.unwrap_err();
    assert_eq!(error.get_retry_after(), Some(Duration::from_secs(55)));
}

#[tokio::test(start_paused = true)]
async fn what_a_turn_takes_is_measured_of_answers_and_not_of_those_who_leave() {
    let mut queue = Arc::into_inner(queue(1, 0)).unwrap();
    queue.inner = Arc::new(fake::Fake::new(fake::Config { first_ms: 3_000, ..Default::default() }));
    for _ in 0..30 {
        queue.call(&ask()).await.unwrap().chat().await.unwrap();
    }
    for _ in 0..50 {
        drop(queue.call(&ask()).await.unwrap());
    }
    let mean = queue.line.lock().mean.as_secs_f32();
    assert!((2.9..3.1).contains(&mean), "{mean}");
    let _running = queue.call(&ask()).await.unwrap();
    let wait = queue.call(&ask()).await.unwrap_err().get_retry_after().unwrap().as_secs_f32();
    assert!((2.9..3.1).contains(&wait), "{wait}");
}

#[tokio::test(start_paused = true)]
async fn who_has_no_patience_for_a_model_that_loads_is_told_at_once_though_others_wait_for_it() {
    struct Loads;
    impl Provider for Loads {
        fn is_loading(&self) -> bool {
            true
        }
        fn call<'a>(&'a self, _: &'a Call) -> BoxFuture<'a, Result<Reply>> {
            Box::pin(std::future::pending())
        }
    }
    let mut queue = Arc::into_inner(queue(1, 10)).unwrap();
    queue.inner = Arc::new(Loads);
    let of = |seconds| Context { patience: Duration::from_secs(seconds), ..Context::default() };
    let (patient, hasty) = (ask().in_context(of(60)), ask().in_context(of(0)));
    let mut waits = queue.call(&patient);
    assert!(futures_util::poll!(&mut waits).is_pending());
    let error = queue.call(&hasty).await.unwrap_err();
    assert_eq!((error.kind(), error.get_retry_after()), (Kind::Loading, Some(LOADED)));
}

fn ask() -> Call {
    Call::new(ChatRequest::new("?"), Delivery::Stream)
}

#[tokio::test(start_paused = true)]
async fn a_call_keeps_its_turn_until_its_stream_ends() {
    let queue = queue(1, 1);
    let first = queue.call(&ask()).await.unwrap();
    assert_eq!(queue.line.depth(), (1, 0));
    let second_call = ask();
    let mut second = queue.call(&second_call);
    assert!(futures_util::poll!(&mut second).is_pending());
    assert_eq!(second_call.context.progress.borrow().place, Some(1));
    first.events().collect::<Vec<_>>().await;
    second.await.unwrap().events().collect::<Vec<_>>().await;
    assert_eq!(queue.line.depth(), (0, 0));
    assert!(second_call.context.progress.borrow().queued > Duration::ZERO, "its wait is told");
}

#[tokio::test(start_paused = true)]
async fn a_full_line_refuses_and_says_when_to_come_back() {
    let queue = queue(1, 0);
    let _running = queue.call(&ask()).await.unwrap();
    let error = queue.call(&ask()).await.unwrap_err();
    assert_eq!((error.kind(), error.get_retry_after()), (Kind::Overloaded, Some(Duration::from_secs(1))));
}

#[tokio::test(start_paused = true)]
async fn the_line_is_first_come_first_served_and_places_move_up() {
    let queue = queue(1, 10);
    let running = queue.call(&ask()).await.unwrap();
    let calls: Vec<Call> = (0..5).map(|_| ask()).collect();
    let mut waiting: Vec<_> = calls.iter().map(|call| queue.call(call)).collect();
    for future in &mut waiting {
        assert!(futures_util::poll!(future).is_pending());
    }
    let place = |i: usize| calls[i].context.progress.borrow().place;
    assert_eq!((place(0), place(4)), (Some(1), Some(5)));
    drop(waiting.remove(1)); // leaves: those behind move up
    assert_eq!((place(0), place(1), place(2), place(4)), (Some(1), None, Some(2), Some(4)));
    drop(running);
    let first = waiting.remove(0).await.unwrap();
    assert_eq!((place(0), place(2)), (None, Some(1)));
    drop(first);
    for future in waiting {
        future.await.unwrap().events().collect::<Vec<_>>().await;
    }
    assert_eq!(queue.line.depth(), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn one_who_leaves_just_as_it_is_called_passes_the_turn_on() {
    let queue = queue(1, 10);
    let running = queue.call(&ask()).await.unwrap();
    let (a, b) = (ask(), ask());
    let (mut first, mut second) = (queue.call(&a), queue.call(&b));
    assert!(futures_util::poll!(&mut first).is_pending() && futures_util::poll!(&mut second).is_pending());
    drop(running); // the turn is on its way to the first
    drop(first);
    second.await.unwrap().events().collect::<Vec<_>>().await;
    assert_eq!(queue.line.depth(), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_new_limit_is_one_for_those_in_line_too_and_nobody_overtakes_them() {
    let old = queue(1, 10);
    let with =
        |running| Queue { inner: old.inner.clone(), line: old.line.clone(), limits: Limits { running, ..old.limits } };
    let (wider, narrower) = (with(3), with(2));
    let running = old.call(&ask()).await.unwrap();
    let calls: Vec<Call> = (0..4).map(|_| ask()).collect();
    let place = |i: usize| calls[i].context.progress.borrow().place;
    let mut waiting: Vec<_> = calls[..2].iter().map(|call| old.call(call)).collect();
    for future in &mut waiting {
        assert!(futures_util::poll!(future).is_pending());
    }
    // Two that stood in line have the two new turns, though nobody has come, and who comes behind them stands in line.
    wider.takes_over();
    assert_eq!(old.line.depth(), (3, 0));
    let mut behind = wider.call(&calls[2]);
    assert!(futures_util::poll!(&mut behind).is_pending());
    assert_eq!((old.line.depth(), place(2)), ((3, 1), Some(1)));
    let (first, second) = (waiting.remove(0).await.unwrap(), waiting.remove(0).await.unwrap());
    // Fewer turns are fewer when those that are taken have been given back.
    narrower.takes_over();
    let mut last = narrower.call(&calls[3]);
    assert!(futures_util::poll!(&mut last).is_pending());
    drop(running);
    assert_eq!((old.line.depth(), place(2)), ((2, 2), Some(1)));
    drop((first, second));
    drop(behind.await.unwrap());
    drop(last.await.unwrap());
    assert_eq!(old.line.depth(), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn those_in_line_are_answered_by_the_newest_configuration_and_a_line_becomes_fair_as_it_is() {
    let old = queue(1, 10);
    let drained = Arc::new(fake::Fake::says("").after_failures(9));
    let old = Queue { inner: drained.clone(), line: old.line.clone(), limits: old.limits };
    let running = queue(1, 10).inner.clone();
    let turn = old.line.turn(&ask(), old.limits, &*running).await.unwrap();
    let calls = [ask_as("many"), ask_as("many"), ask_as("one")];
    let mut waiting: Vec<_> = calls[..2].iter().map(|call| old.call(call)).collect();
    for future in &mut waiting {
        assert!(futures_util::poll!(future).is_pending());
    }
    let limits = Limits { fair: true, ..old.limits };
    let new = Queue { inner: Arc::new(fake::Fake::says("new")), line: old.line.clone(), limits };
    new.takes_over();
    let mut one = new.call(&calls[2]);
    assert!(futures_util::poll!(&mut one).is_pending());
    assert_eq!(old.line.depth(), (1, 3), "one line, and one turn");
    drop(turn);
    for future in waiting.into_iter().chain([one]) {
        assert_eq!(future.await.unwrap().chat().await.unwrap().text, "new");
    }
    assert_eq!((drained.calls(), old.line.depth()), (0, (0, 0)));
}
