//! How much each caller may ask: so many requests and so many tokens a minute, each caller by its own count.
//!
//! What an answer costs is known when it has ended, so tokens are charged then: a caller may run into debt, and waits
//! until it is paid off.
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::{Build, Level, Policy};
use crate::call::*;
use crate::error::{Error, Kind, Result};
use crate::provider::{defaults, settings};

/// The registration.
pub const QUOTA: Policy = Policy {
    name: "quota",
    about: "how many requests and tokens a minute each caller may have",
    level: Level::Model,
    wrap,
    defaults: defaults::<Config>,
};

/// What every caller may have, and what some may have instead.
///
/// ```
/// let config: llm_core::policy::quota::Config =
///     toml::from_str("requests_per_minute = 60\n[callers.ci]\ntokens_per_minute = 1_000_000")?;
/// assert_eq!(config.callers["ci"].requests_per_minute, None);
/// # Ok::<(), toml::de::Error>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Requests a minute, which may come all at once; by default as many as come.
    pub requests_per_minute: Option<u32>,
    /// Tokens a minute, of prompts and answers together; by default as many as come.
    pub tokens_per_minute: Option<u32>,
    /// Other limits for callers by the names of their keys.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub callers: BTreeMap<String, Limits>,
}

/// The limits of one caller; what is not said is not limited.
///
/// ```
/// let limits = llm_core::policy::quota::Limits { requests_per_minute: Some(60), ..Default::default() };
/// assert!(limits.tokens_per_minute.is_none());
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Requests a minute.
    pub requests_per_minute: Option<u32>,
    /// Tokens a minute.
    pub tokens_per_minute: Option<u32>,
}

impl Limits {
    fn are_none(self) -> bool {
        self == Limits::default()
    }
}

/// So many callers are remembered; of more, those who owe nothing are forgotten.
const MOST_CALLERS: usize = 10_000;
/// No prompt is estimated at more tokens.
const MOST_OF_A_PROMPT: u32 = 8_192;
const MINUTE: Duration = Duration::from_secs(60);

struct Quota {
    inner: Arc<dyn Provider>,
    config: Config,
    accounts: Arc<Accounts>,
}

fn wrap(build: Build<'_>) -> Result<Arc<dyn Provider>> {
    let config: Config = settings(build.settings)?;
    let named = config.callers.iter().map(|(name, limits)| (format!("callers.{name}."), *limits));
    for (place, limits) in named.chain([(String::new(), config.of_all())]) {
        let fields =
            [("requests_per_minute", limits.requests_per_minute), ("tokens_per_minute", limits.tokens_per_minute)];
        if let Some((field, _)) = fields.iter().find(|(_, limit)| *limit == Some(0)) {
            return Err(Error::config("must be at least 1; without it there is no limit").at(format!("{place}{field}")));
        }
    }
    if config == Config::default() {
        return Ok(build.inner);
    }
    // Models with the same section share the count: that of the house holds for all of them together.
    let accounts = build.keep.part(format!("quota {config:?}"), || Ok(Accounts::default()))?;
    Ok(Arc::new(Quota { inner: build.inner, config, accounts }))
}

impl Config {
    fn of_all(&self) -> Limits {
        Limits { requests_per_minute: self.requests_per_minute, tokens_per_minute: self.tokens_per_minute }
    }

    fn of(&self, caller: &str) -> Limits {
        self.callers.get(caller).copied().unwrap_or(self.of_all())
    }
}

impl Provider for Quota {
    fn call<'a>(&'a self, call: &'a Call) -> BoxFuture<'a, Result<Reply>> {
        let limits = self.config.of(&call.context.caller);
        if limits.are_none() || !call.operation.takes_turn() {
            return self.inner.call(call);
        }
        Box::pin(async move {
            // A model that steps in for another is no second request of the same quota.
            let this = Arc::as_ptr(&self.accounts) as usize;
            let is_counted = call.context.progress.borrow().counted_by.contains(&this);
            let counts = Limits { requests_per_minute: limits.requests_per_minute.filter(|_| !is_counted), ..limits };
            self.accounts.opens(&call.context.caller, counts)?;
            call.context.tell(|progress| {
                progress.counted_by.push(this);
                progress.has_left_line = false;
            });
            let mut bill = Bill { accounts: self.accounts.clone(), call: call.clone(), limits, cost: None };
            let reply = self.inner.call(call).await.inspect_err(|_| bill.is(0))?;
            let (reply, said) = counted(reply, limits);
            Ok(reply.on_end(move |end| {
                bill.is(match end {
                    End::Finished(Some(usage)) => usage.prompt_tokens.saturating_add(usage.completion_tokens),
                    _ => bill.estimate().saturating_add(said.load(Ordering::Relaxed)),
                });
            }))
        })
    }

    fn inner(&self) -> Option<&dyn Provider> {
        Some(&*self.inner)
    }
}

/// What is charged when it is dropped; where nobody told what it cost, what the prompt is about: who leaves before that has
/// had it all the same.
struct Bill {
    accounts: Arc<Accounts>,
    call: Call,
    limits: Limits,
    cost: Option<u32>,
}

impl Bill {
    fn is(&mut self, tokens: u32) {
        self.cost = Some(tokens);
    }

    fn estimate(&self) -> u32 {
        let was_asked = !self.call.context.progress.borrow().has_left_line;
        if was_asked { about(self.call.size()) } else { 0 }
    }
}

impl Drop for Bill {
    fn drop(&mut self) {
        let cost = self.cost.unwrap_or_else(|| self.estimate());
        self.accounts.charge(&self.call.context.caller, self.limits, cost);
    }
}

/// The reply, and how many pieces of it have gone by: about as many as it has tokens.
fn counted(reply: Reply, limits: Limits) -> (Reply, Arc<AtomicU32>) {
    let said = Arc::new(AtomicU32::new(0));
    if reply.is_here() || limits.tokens_per_minute.is_none() {
        return (reply, said);
    }
    let count = said.clone();
    let pieces = move |frame: &Result<Frame>| match frame {
        Ok(Frame::Wire(wire)) => memchr::memmem::find_iter(&wire.bytes, b"\n\n").count().max(1),
        Ok(_) => 1,
        Err(_) => 0,
    };
    let add = move |frame: &Result<Frame>| {
        count.fetch_add(u32::try_from(pieces(frame)).unwrap_or(u32::MAX), Ordering::Relaxed);
    };
    (reply.map(|frames| frames.inspect(add).boxed()), said)
}

/// The tokens of a prompt of so many bytes, at four to a token; an image's bytes are not that many words.
fn about(bytes: usize) -> u32 {
    u32::try_from(bytes / 4).unwrap_or(u32::MAX).min(MOST_OF_A_PROMPT)
}

/// What callers have had.
#[derive(Default)]
struct Accounts(Mutex<HashMap<String, Account>>);

/// When each count is back where it began.
#[derive(Clone, Copy)]
struct Account {
    requests: Instant,
    tokens: Instant,
}

impl Accounts {
    /// Lets one more request through, or says when.
    fn opens(&self, caller: &str, limits: Limits) -> Result<()> {
        let now = Instant::now();
        self.with(caller, now, |account| {
            if let Some(most) = limits.tokens_per_minute {
                // All of a minute's tokens are there as long as no more than they is owed.
                let debt = account.tokens.saturating_duration_since(now).saturating_sub(MINUTE);
                if !debt.is_zero() {
                    return Err(used_up("tokens", most, debt));
                }
            }
            let Some(most) = limits.requests_per_minute else { return Ok(()) };
            let next = account.requests.max(now) + MINUTE / most;
            let early = next.duration_since(now).saturating_sub(MINUTE);
            if !early.is_zero() {
                return Err(used_up("requests", most, early));
            }
            account.requests = next;
            Ok(())
        })
    }

    fn charge(&self, caller: &str, limits: Limits, tokens: u32) {
        let Some(most) = limits.tokens_per_minute else { return };
        let now = Instant::now();
        self.with(caller, now, |account| {
            account.tokens = account.tokens.max(now) + MINUTE.mul_f64(f64::from(tokens) / f64::from(most))
        });
    }

    fn with<T>(&self, caller: &str, now: Instant, change: impl FnOnce(&mut Account) -> T) -> T {
        let mut accounts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(account) = accounts.get_mut(caller) {
            return change(account);
        }
        if accounts.len() >= MOST_CALLERS {
            accounts.retain(|_, account| account.requests > now || account.tokens > now);
        }
        change(accounts.entry(caller.to_owned()).or_insert(Account { requests: now, tokens: now }))
    }
}

fn used_up(what: &str, most: u32, wait: Duration) -> Error {
    Error::new(Kind::RateLimited, format!("this key has used up its {most} {what} a minute")).retry_after(wait)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::fake::Fake;

    fn quota(toml: &str) -> Arc<dyn Provider> {
        let (mut keep, observer): (_, Arc<dyn super::super::Observer>) = (super::super::Keep::default(), Arc::new(()));
        let settings = &toml.parse().unwrap();
        let inner = Arc::new(Fake::says("one two three four"));
        wrap(Build { inner, settings, of: "m", keep: &mut keep, observer: &observer }).unwrap()
    }

    async fn ask(quota: &Arc<dyn Provider>, caller: &str) -> Result<ChatReply> {
        let context = Context { caller: caller.into(), ..Context::default() };
        let call = Call::new(ChatRequest::new("a b"), Delivery::Whole).in_context(context);
        quota.call(&call).await?.chat().await
    }

    #[tokio::test(start_paused = true)]
    async fn each_caller_has_so_many_requests_a_minute_and_they_come_back_one_by_one() {
        let quota = quota("requests_per_minute = 3");
        for _ in 0..3 {
            ask(&quota, "alice").await.unwrap();
        }
        let error = ask(&quota, "alice").await.unwrap_err();
        assert_eq!((error.kind(), error.get_retry_after()), (Kind::RateLimited, Some(Duration::from_secs(20))));
        ask(&quota, "bob").await.unwrap();
        tokio::time::advance(Duration::from_secs(20)).await;
        ask(&quota, "alice").await.unwrap();
        assert!(ask(&quota, "alice").await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn tokens_are_charged_when_an_answer_has_ended_and_debts_are_waited_for() {
        let quota = quota("tokens_per_minute = 6"); // an answer costs two and four
        ask(&quota, "alice").await.unwrap();
        ask(&quota, "alice").await.unwrap();
        let error = ask(&quota, "alice").await.unwrap_err();
        assert_eq!(error.get_retry_after(), Some(Duration::from_secs(60)), "{error}");
        tokio::time::advance(Duration::from_secs(60)).await;
        ask(&quota, "alice").await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn who_leaves_in_the_middle_is_charged_for_the_prompt_and_what_was_said() {
        let question = || {
            let context = Context { caller: "alice".into(), ..Context::default() };
            Call::new(ChatRequest::new("word ".repeat(400)), Delivery::Stream).in_context(context)
        };
        let debt = |quota: Arc<dyn Provider>| async move {
            ask(&quota, "alice").await.err().and_then(|e| e.get_retry_after()).unwrap_or_default()
        };
        let quota = || quota("tokens_per_minute = 100");
        let left = quota();
        drop(left.call(&question()).await.unwrap());
        assert!(debt(left).await > Duration::from_secs(200), "2,000 bytes are 500 tokens, five minutes of them");
        let never_begun = quota();
        drop(never_begun.call(&question()));
        assert_eq!(debt(never_begun).await, Duration::ZERO, "it was not even asked");
    }

    #[tokio::test(start_paused = true)]
    async fn who_leaves_the_line_owes_nothing_and_a_model_that_steps_in_is_no_second_request() {
        let text = "quota = { tokens_per_minute = 100, requests_per_minute = 2 }\nqueue = { limit = 1 }\n\
                    [models.a]\nprovider = 'fake'\nfailures = 99\nretry = { max_retries = 0 }\nfallback = ['b']\n\
                    [models.b]\nprovider = 'fake'\nsays = 'hi'\n[models.c]\nprovider = 'fake'\nsays = 'hi'\nfirst_ms = 1000";
        let gateway = crate::Gateway::new(&crate::Config::from_toml(text).unwrap()).unwrap();
        let ask = |caller: &str, model: &str, words: usize| {
            let context = Context { caller: caller.into(), ..Context::default() };
            Call::new(ChatRequest::new("word ".repeat(words)).model(model), Delivery::Whole).in_context(context)
        };
        let (first, second) = (ask("alice", "c", 1), ask("bob", "c", 400));
        let (mut running, mut waiting) = (gateway.call(&first), gateway.call(&second));
        assert!(futures_util::poll!(&mut running).is_pending() && futures_util::poll!(&mut waiting).is_pending());
        drop(waiting);
        drop(running);
        assert!(gateway.call(&ask("bob", "c", 1)).await.is_ok(), "nothing was asked for him");
        for _ in 0..2 {
            assert!(gateway.call(&ask("carol", "a", 1)).await.is_ok(), "two requests are two");
        }
        assert!(gateway.call(&ask("carol", "a", 1)).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn some_callers_have_limits_of_their_own() {
        let quota = quota("requests_per_minute = 1\n[callers.ci]\n[callers.guest]\ntokens_per_minute = 1");
        for _ in 0..50 {
            ask(&quota, "ci").await.unwrap();
        }
        ask(&quota, "guest").await.unwrap();
        assert!(ask(&quota, "guest").await.unwrap_err().message().contains("1 tokens a minute"));
        ask(&quota, "other").await.unwrap();
        assert!(ask(&quota, "other").await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn callers_who_owe_nothing_are_forgotten() {
        let (accounts, limits) = (Accounts::default(), Limits { requests_per_minute: Some(60), ..Limits::default() });
        for caller in 0..2 * MOST_CALLERS {
            accounts.opens(&caller.to_string(), limits).unwrap();
            tokio::time::advance(Duration::from_millis(1)).await;
        }
        assert!(accounts.0.lock().unwrap().len() <= MOST_CALLERS);
    }

    #[test]
    fn a_limit_of_nothing_is_refused_with_its_place() {
        let (mut keep, observer): (_, Arc<dyn super::super::Observer>) = (super::super::Keep::default(), Arc::new(()));
        let settings = &"[callers.ci]\nrequests_per_minute = 0".parse().unwrap();
        let inner = Arc::new(Fake::says(""));
        let error = wrap(Build { inner, settings, of: "m", keep: &mut keep, observer: &observer }).err().unwrap();
        assert!(error.to_string().starts_with("callers.ci.requests_per_minute: must be at least 1"), "{error}");
    }
}
