//! What is kept, for whom and for how long; and who waits for whom.
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use tokio::sync::Notify;

use super::super::*;
use crate::dialect;
use crate::error::Kind;
use crate::policy::{Keep, Observer};

/// Numbers its answers; the second word of each comes when it is told to, if it is.
#[derive(Default)]
struct Counts {
    asked: AtomicUsize,
    go_on: Option<Arc<Notify>>,
    failures: Mutex<Vec<Error>>,
    finish: Option<&'static str>,
}

impl Counts {
    fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }
}

impl Provider for Counts {
    fn serves(&self) -> Operations {
        Operations::CHAT | Operation::Embed.into()
    }

    fn call<'a>(&'a self, call: &'a Call) -> BoxFuture<'a, Result<Reply>> {
        Box::pin(async move {
            let number = self.asked.fetch_add(1, Ordering::Relaxed) + 1;
            if let Some(error) = self.failures.lock().unwrap().pop() {
                return Err(error);
            }
            if call.operation == Operation::Embed {
                return Ok(Reply::of(Frame::Vectors(Embeddings {
                    vectors: vec![vec![number as f32]],
                    usage: None,
                    ..Embeddings::default()
                })));
            }
            call.context.warn("a field was left out");
            let events = [
                Event::Text(number.to_string()),
                Event::Text(" and more".into()),
                Event::Finish(self.finish.unwrap_or("stop").into()),
            ];
            let go_on = self.go_on.clone();
            let frames = stream::iter(events).enumerate().then(move |(i, event)| {
                let go_on = go_on.clone().filter(|_| i == 1);
                async move {
                    if let Some(go_on) = go_on {
                        go_on.notified().await;
                    }
                    Ok(Frame::Event(event))
                }
            });
            Reply::begun(frames.boxed()).await
        })
    }
}

fn cache(inner: &Arc<Counts>, toml: &str) -> Arc<dyn Provider> {
    let (settings, keep): (_, &mut Keep) = (&toml.parse().unwrap(), &mut Keep::default());
    let observer: Arc<dyn Observer> = Arc::new(());
    wrap(Build { inner: inner.clone(), settings, of: "m", keep, observer: &observer }).unwrap()
}

fn fixed(text: &str) -> Call {
    Call::new(ChatRequest::new(text).temperature(0.0), Delivery::Stream)
}

fn body(text: &str) -> Call {
    Call::read(Operation::Chat, dialect::openai(), Bytes::copy_from_slice(text.as_bytes())).unwrap()
}

async fn text(cache: &Arc<dyn Provider>, call: &Call) -> String {
    cache.call(call).await.unwrap().chat().await.unwrap().text
}

fn cached(call: &Call) -> Option<Cached> {
    call.context.progress.borrow().cached
}

#[tokio::test]
async fn who_asks_the_same_is_given_the_same_answer_and_told_so() {
    let inner = Arc::<Counts>::default();
    let cache = cache(&inner, "size_mb = 1");
    let first = fixed("?");
    assert_eq!((text(&cache, &first).await.as_str(), cached(&first)), ("1 and more", Some(Cached::Miss)));
    let again = fixed("?");
    assert_eq!(text(&cache, &again).await, "1 and more");
    assert!(matches!(cached(&again), Some(Cached::Hit(age)) if age < Duration::from_secs(60)));
    assert_eq!(again.context.progress.borrow().warnings, ["a field was left out"], "what was told is told again");
    assert_eq!((text(&cache, &fixed("!")).await.as_str(), inner.asked()), ("2 and more", 2));
}

#[tokio::test]
async fn only_what_cannot_be_answered_in_two_ways_is_kept() {
    let inner = Arc::<Counts>::default();
    let cache = cache(&inner, "size_mb = 1");
    let messages = r#""messages":[{"role":"user","content":"?"}]"#;
    for (fields, is_kept) in [
        ("", false),
        (r#","temperature":0.1"#, false),
        (r#","temperature":0"#, true),
        (r#","temperature":0.0,"user":"bob""#, true),
        (r#","seed":7"#, true),
    ] {
        let before = inner.asked();
        for _ in 0..2 {
            text(&cache, &body(&format!("{{{messages}{fields}}}"))).await;
        }
        assert_eq!(inner.asked() - before, if is_kept { 1 } else { 2 }, "{fields}");
    }
    let before = inner.asked();
    for _ in 0..2 {
        let call = Call::new(EmbedRequest::new(["a"]), Delivery::Whole);
        cache.call(&call).await.unwrap();
    }
    assert_eq!(inner.asked() - before, 1, "a text has one vector");
}

#[tokio::test]
async fn an_answer_that_its_host_has_aborted_is_given_to_nobody_else() {
    let inner = Arc::new(Counts { finish: Some("abort"), ..Counts::default() });
    let cache = cache(&inner, "size_mb = 1");
    assert_eq!(
        (text(&cache, &fixed("?")).await, text(&cache, &fixed("?")).await),
        ("1 and more".into(), "2 and more".into())
    );
    let tape = |reason: &str| {
        let bytes = format!(r#"{{"choices":[{{"message":{{"content":"a"}},"finish_reason":"{reason}"}}]}}"#);
        let glance = Glance { is_finished: true, ..Glance::default() };
        let wire = Wire { bytes: bytes.into(), glance };
        let (told, tapes) = std::sync::mpsc::channel();
        drop(Reply::of_wire(dialect::openai(), wire).taped(1 << 10, move |tape| told.send(tape).unwrap()));
        tapes.recv().unwrap().unwrap()
    };
    assert!(tape("abort").is_aborted() && !tape("stop").is_aborted() && !tape("length").is_aborted());
}

#[tokio::test]
async fn questions_that_differ_in_anything_are_different() {
    let inner = Arc::<Counts>::default();
    let cache = cache(&inner, "size_mb = 1\nper_caller = true");
    let of = |caller: &str, model: &str, words: &str, more: &str| {
        let context = Context { caller: caller.into(), ..Context::default() };
        let text = format!(
            r#"{{"model":"{model}","messages":[{{"role":"user","content":"{words}"}}],"temperature":0{more}}}"#
        );
        Call::read_in(context, Operation::Chat, dialect::openai(), text.into()).unwrap()
    };
    let calls = [
        of("", "m", "?", ""),
        of("bob", "m", "?", ""),
        of("", "n", "?", ""),
        of("", "m", "!", ""),
        of("", "m", "?", r#","top_p":1"#),
        of("", "m", "?", r#","stream":true"#),
    ];
    for _ in 0..2 {
        for (number, call) in calls.iter().enumerate() {
            assert_eq!(text(&cache, call).await, format!("{} and more", number + 1));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_second_caller_waits_for_the_firsts_answer_while_that_one_reads_it() {
    let go_on = Arc::new(Notify::new());
    let inner = Arc::new(Counts { go_on: Some(go_on.clone()), ..Counts::default() });
    let cache = cache(&inner, "size_mb = 1");
    let first = fixed("?");
    let mut reading = cache.call(&first).await.unwrap().events();
    let Some(Ok(Frame::Event(Event::Text(word)))) = reading.next().await else { panic!("a word") };
    assert_eq!(word, "1");
    let others: Vec<_> = (0..3)
        .map(|_| {
            let cache = cache.clone();
            tokio::spawn(async move { text(&cache, &fixed("?")).await })
        })
        .collect();
    tokio::time::advance(Duration::from_secs(1)).await;
    assert!(others.iter().all(|other| !other.is_finished()));
    let late = Context {
        deadline: Some((tokio::time::Instant::now() + Duration::from_secs(1)).into_std()),
        ..Context::default()
    };
    let impatient = fixed("?").in_context(late);
    assert_eq!(cache.call(&impatient).await.unwrap_err().kind(), Kind::Timeout);
    go_on.notify_one();
    while reading.next().await.is_some() {}
    for other in others {
        assert_eq!(other.await.unwrap(), "1 and more");
    }
    assert_eq!(inner.asked(), 1);
}

#[tokio::test(start_paused = true)]
async fn whoever_reads_slowly_holds_the_others_up_for_two_minutes_at_most() {
    let go_on = Arc::new(Notify::new());
    let inner = Arc::new(Counts { go_on: Some(go_on.clone()), ..Counts::default() });
    let cache = cache(&inner, "size_mb = 1");
    let slow = fixed("?");
    let _unread = cache.call(&slow).await.unwrap();
    let since = tokio::time::Instant::now();
    go_on.notify_one();
    assert_eq!(text(&cache, &fixed("?")).await, "2 and more");
    assert_eq!(since.elapsed(), Duration::from_secs(120));
}

#[tokio::test]
async fn when_the_first_leaves_the_next_one_asks_and_when_it_fails_each_asks_for_itself() {
    let go_on = Arc::new(Notify::new());
    let inner = Arc::new(Counts { go_on: Some(go_on.clone()), ..Counts::default() });
    let cache = cache(&inner, "size_mb = 1");
    let first = fixed("?");
    let reading = cache.call(&first).await.unwrap();
    let second = fixed("?");
    let mut waiting = cache.call(&second);
    assert!(futures_util::poll!(&mut waiting).is_pending());
    drop(reading);
    go_on.notify_one();
    assert_eq!((waiting.await.unwrap().chat().await.unwrap().text.as_str(), inner.asked()), ("2 and more", 2));
    assert_eq!(cached(&second), Some(Cached::Miss));

    *inner.failures.lock().unwrap() = vec![Error::new(Kind::Overloaded, "busy")];
    assert_eq!(cache.call(&fixed("!")).await.unwrap_err().kind(), Kind::Overloaded);
    go_on.notify_one();
    assert_eq!((text(&cache, &fixed("!")).await.as_str(), inner.asked()), ("4 and more", 4), "an error is not kept");
}

#[tokio::test]
async fn a_caller_may_ask_anew_or_leave_no_trace() {
    let inner = Arc::<Counts>::default();
    let cache = cache(&inner, "size_mb = 1");
    let ask = |caching| fixed("?").in_context(Context { caching, ..Context::default() });
    for (caching, number) in [
        (Caching::Never, "1"),
        (Caching::Use, "2"),
        (Caching::Use, "2"),
        (Caching::Renew, "3"),
        (Caching::Use, "3"),
        (Caching::Never, "4"),
        (Caching::Use, "3"),
    ] {
        assert_eq!(text(&cache, &ask(caching)).await, format!("{number} and more"), "{caching:?}");
    }
}

#[tokio::test]
async fn an_answer_has_its_day() {
    let inner = Arc::<Counts>::default();
    let cache = cache(&inner, "size_mb = 1\nttl_s = 0.05");
    let since = std::time::Instant::now();
    while text(&cache, &fixed("?")).await == "1 and more" {
        assert!(since.elapsed() < Duration::from_secs(20), "it is kept for ever");
        tokio::task::yield_now().await;
    }
    assert!(since.elapsed() >= Duration::from_millis(50));
}

#[tokio::test]
async fn no_more_is_kept_than_there_is_room_for() {
    let inner = Arc::<Counts>::default();
    let store = store::Store::new(10_000, Duration::from_secs(60));
    let cache = answer::Cache { inner: inner.clone(), store, per_caller: false };
    let cache: Arc<dyn Provider> = Arc::new(cache);
    for number in 0..200 {
        text(&cache, &fixed(&number.to_string())).await;
    }
    let since = std::time::Instant::now();
    loop {
        let before = inner.asked();
        for number in 0..200 {
            text(&cache, &fixed(&number.to_string())).await;
        }
        let again = inner.asked() - before;
        if again >= 150 {
            break; // moka tidies up as it is used
        }
        assert!(since.elapsed() < Duration::from_secs(20), "{again} of 200 were asked again");
    }
}

#[test]
fn settings_that_make_no_sense_are_refused_with_their_place() {
    for (text, says) in [
        ("size_mb = 0", "size_mb: must be at least 1"),
        ("size_mb = 1\nttl_s = -1", "ttl_s: "),
        ("size = 1", "unknown field `size`"),
    ] {
        let (settings, keep): (_, &mut Keep) = (&text.parse().unwrap(), &mut Keep::default());
        let (inner, observer): (Arc<dyn Provider>, Arc<dyn Observer>) = (Arc::<Counts>::default(), Arc::new(()));
        let error = wrap(Build { inner, settings, of: "m", keep, observer: &observer }).err().unwrap().to_string();
        assert!(error.contains(says), "{error}");
    }
}
