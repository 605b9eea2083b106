//! Chooses one of a model's deployments for each attempt: one that is well and has not said to come back later, rather
//! one that was not tried yet and did not just fail; among those the one that knows the call's session or the beginning
//! of its prompt, unless it has more to do than its share; and then the one with the least to do.
use std::sync::Arc;
use std::time::Duration;

use super::affinity;
use super::deployment::{Busy, Deployment};
use super::health::Status;
use crate::call::*;
use crate::error::{DRAINING, Error, Kind, Result};

/// When to ask again for a model that is being loaded, and for one that is drained.
const LOADED: Duration = Duration::from_secs(5);
const DRAINED: Duration = Duration::from_secs(30);
/// When to ask again for one that another caller is trying after its rest.
const TRIED: Duration = Duration::from_secs(1);
/// How often a model that says of itself that it loads is asked again, at the least.
const ASKS_AGAIN: Duration = Duration::from_secs(2);
/// How often those who wait for a model look whether it is there.
const LOOKS_AGAIN: Duration = Duration::from_millis(500);

/// A deployment in the stack: with its policies around it.
///
/// ```
/// use std::sync::Arc;
/// use llm_core::{Provider, provider::fake::Fake, route::{Deployment, Selection, selection::Candidate}};
/// let host: Arc<dyn Provider> = Arc::new(Fake::says("hi"));
/// let deployment = Arc::new(Deployment::new("coder/0".into(), None, host.clone()));
/// assert!(Selection::new(vec![Candidate { deployment, stack: host }]).is_ok());
/// assert!(Selection::new(vec![]).is_err());
/// ```
pub struct Candidate {
    /// The deployment.
    pub deployment: Arc<Deployment>,
    /// Its provider inside its policies.
    pub stack: Arc<dyn Provider>,
}

/// The deployments of one model.
pub struct Selection {
    candidates: Vec<Candidate>,
}

impl Selection {
    /// Chooses among these; there must be one at least.
    ///
    /// # Errors
    /// `Config` if there is none.
    pub fn new(candidates: Vec<Candidate>) -> Result<Selection> {
        if candidates.is_empty() {
            return Err(Error::config("a model needs at least one deployment").at("deployments"));
        }
        Ok(Selection { candidates })
    }

    fn is_remote(&self) -> bool {
        self.candidates.iter().all(|c| c.deployment.provider.life().is_none())
    }

    /// One that may be asked, and that it has one reply more to do.
    fn choose(&self, call: &Call) -> Result<(&Candidate, Busy)> {
        let able = || self.candidates.iter().filter(|c| c.stack.serves().contains(call.operation));
        if let [only] = &self.candidates[..]
            && only.stack.serves().contains(call.operation)
        {
            let busy = Busy::with(&only.deployment, call);
            return busy.map(|busy| (only, busy)).ok_or_else(|| self.nobody(call, able()));
        }
        let tried = call.context.progress.borrow().tried.clone();
        let mut best: Vec<_> = able().filter(|c| c.deployment.is_open(call)).collect();
        // What loads, or is there to be mended, answers fast, and would draw all calls.
        if best.iter().any(|c| !c.deployment.is_out()) {
            best.retain(|c| !c.deployment.is_out());
        }
        let (kin, share) = (affinity::of(call), share(&best));
        best.sort_by_cached_key(|c| {
            let (name, load) = (&c.deployment.name, c.deployment.outstanding());
            let is_far = kin.filter(|_| load < share).map_or(u64::MAX, |kin| kin.distance_to(name));
            (tried.contains(name), c.deployment.health.is_doubted(), is_far, load)
        });
        // Somebody else may have begun a trial there just now.
        let chosen = best.into_iter().find_map(|c| Some((c, Busy::with(&c.deployment, call)?)));
        chosen.ok_or_else(|| self.nobody(call, able()))
    }

    /// Why nobody may be asked, in the words of the one who may be soonest.
    fn nobody<'c>(&self, call: &Call, able: impl Iterator<Item = &'c Candidate>) -> Error {
        let told = able.map(|c| (c.deployment.is_drained(), shut(&c.deployment, call)));
        let soonest = told.min_by_key(|(is_drained, error)| (*is_drained, error.get_retry_after()));
        let cannot = || Error::new(Kind::Unsupported, format!("this model cannot {}", call.operation));
        soonest.map_or_else(cannot, |(_, error)| error)
    }

    /// Whether there is one that may be asked and was not yet.
    fn has_another(&self, call: &Call) -> bool {
        let tried = &call.context.progress.borrow().tried;
        let is_late = call.context.left().is_some_and(|left| left.is_zero());
        let can = |c: &Candidate| c.stack.serves().contains(call.operation) && !tried.contains(&c.deployment.name);
        let may = |c: &Candidate| c.deployment.is_open(call) && !c.deployment.is_out();
        self.candidates.len() > 1 && !is_late && self.candidates.iter().any(|c| can(c) && may(c))
    }

    async fn attempt(&self, call: &Call) -> Result<Reply> {
        let (chosen, mut busy) = self.choose(call)?;
        let name = chosen.deployment.name_for(call).await?;
        let renamed = name.filter(|name| **name != *call.model).map(|name| call.for_model(&name));
        match chosen.stack.call(renamed.as_ref().unwrap_or(call)).await {
            Ok(reply) => {
                busy.answered();
                Ok(reply.on_end(move |end| busy.ended(&end)))
            }
            Err(error) => {
                chosen.deployment.health.failed_at(&error.for_others(), chosen.deployment.asked(call));
                call.context.tell(|p| p.tried.push(chosen.deployment.name.clone()));
                let starts = matches!(chosen.deployment.status(), Status::Loading(_));
                let starts = starts && error.kind() == Kind::Unavailable;
                let error = if starts { loading(&chosen.deployment.name) } else { error };
                let is_elsewhere = error.kind().is_failover() && self.has_another(call);
                Err(if is_elsewhere { error.of_one_of_several() } else { error })
            }
        }
    }

    /// Asks one, and where that one loads, another.
    async fn attempts(&self, call: &Call) -> Result<Reply> {
        loop {
            match self.attempt(call).await {
                Err(error) if error.kind() == Kind::Loading && error.is_of_one_of_several() => {}
                answer => return answer,
            }
        }
    }

    /// Asks again, as long as the caller has patience and the model says that it loads.
    async fn once_loaded(&self, call: &Call, mut loads: Error) -> Result<Reply> {
        let (began, patience) = (tokio::time::Instant::now(), patience(call));
        let left = || patience.saturating_sub(began.elapsed());
        loop {
            let pause = loads.get_retry_after().unwrap_or_default().clamp(LOOKS_AGAIN, ASKS_AGAIN);
            let waits = async {
                tokio::time::sleep(pause.min(left())).await;
                !left().is_zero() && self.is_ready_within(left(), call).await
            };
            if !call.context.while_it_loads(waits).await {
                return Err(loads);
            }
            call.context.tell(|p| p.tried.clear()); // whoever loaded is another now
            match self.attempts(call).await {
                Err(error) if error.kind() == Kind::Loading => loads = error,
                answer => return answer,
            }
        }
    }

    /// Waits until somebody who can be asked this is ready, for those who have the patience.
    async fn is_ready_within(&self, left: Duration, call: &Call) -> bool {
        let able = || self.candidates.iter().filter(|c| c.stack.serves().contains(call.operation));
        let ready = async {
            loop {
                for candidate in able() {
                    // One that is there and lists other models says so best itself.
                    let listed = candidate.deployment.probe().await;
                    let is_there = listed.is_ok() || listed.is_err_and(|error| error.kind() == Kind::NotFound);
                    if is_there && candidate.deployment.is_open(call) {
                        return;
                    }
                }
                tokio::time::sleep(LOOKS_AGAIN).await;
            }
        };
        tokio::time::timeout(left, ready).await.is_ok()
    }
}

/// So many replies may run at one deployment before it is too much: a quarter above its share, this call counted.
fn share(open: &[&Candidate]) -> usize {
    let load = 1 + open.iter().map(|c| c.deployment.outstanding()).sum::<usize>();
    (load * 5).div_ceil(open.len().max(1) * 4)
}

/// What a deployment that may not be asked tells, and when to come back.
fn shut(deployment: &Deployment, call: &Call) -> Error {
    if let Some(busy) = deployment.busy(call) {
        return busy;
    }
    let drained = |wait| Error::new(Kind::Unavailable, "it is being drained").code(DRAINING).retry_after(wait);
    // Where it rests no more, another caller is trying it.
    let wait = deployment.health.rest().unwrap_or(TRIED);
    match deployment.status() {
        Status::Draining if deployment.is_drained() => drained(DRAINED),
        Status::Draining => drained(wait),
        Status::Loading(_) => loading(&deployment.name),
        Status::Failing(why) => Error::new(Kind::Unavailable, why).retry_after(wait),
        Status::Ready | Status::Unknown => Error::new(Kind::Unavailable, "it failed several times").retry_after(wait),
    }
}

/// How long a call may wait for a model, from now.
fn patience(call: &Call) -> Duration {
    call.context.patience.min(call.context.left().unwrap_or(Duration::MAX))
}

fn loading(name: &str) -> Error {
    Error::new(Kind::Loading, format!("{name} is being loaded")).retry_after(LOADED)
}

impl Provider for Selection {
    fn call<'a>(&'a self, call: &'a Call) -> BoxFuture<'a, Result<Reply>> {
        Box::pin(async move {
            match self.attempts(call).await {
                // Who has its own life was waited for already.
                Err(error) if error.kind() == Kind::Loading && self.is_remote() => self.once_loaded(call, error).await,
                answer => answer,
            }
        })
    }

    fn serves(&self) -> Operations {
        self.candidates.iter().fold(Operations::NONE, |all, c| all | c.stack.serves())
    }

    fn takes_over(&self) {
        self.candidates.iter().for_each(|candidate| candidate.stack.takes_over());
    }

    fn is_loading(&self) -> bool {
        self.candidates.iter().all(|c| matches!(c.deployment.status(), Status::Loading(_)))
    }

    fn width(&self) -> Option<usize> {
        self.candidates.iter().map(|c| c.stack.width()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::fake::Fake;
    use futures_util::StreamExt;

    fn candidate(name: &str, fake: Fake) -> (Candidate, Arc<Fake>) {
        let fake = Arc::new(fake);
        let deployment = Arc::new(Deployment::new(name.into(), Some("m".into()), fake.clone()));
        (Candidate { deployment, stack: fake.clone() }, fake)
    }

    fn ask() -> Call {
        Call::new(ChatRequest::new("?"), Delivery::Stream)
    }

    #[tokio::test]
    async fn the_next_attempt_goes_elsewhere() {
        let (ill, _) = candidate("a", Fake::says("never").after_failures(9));
        let (well, fake) = candidate("b", Fake::says("hi"));
        let selection = Selection::new(vec![ill, well]).unwrap();
        let call = ask();
        assert!(selection.call(&call).await.is_err());
        selection.call(&call).await.unwrap();
        assert_eq!((fake.calls(), &call.context.progress.borrow().tried[..]), (1, &["a".to_owned()][..]));
    }

    #[tokio::test]
    async fn the_one_with_the_least_to_do_is_chosen() {
        let (a, first) = candidate("a", Fake::says("hi"));
        let (b, second) = candidate("b", Fake::says("hi"));
        let selection = Selection::new(vec![a, b]).unwrap();
        let running: Vec<_> =
            futures_util::future::join_all((0..10).map(|_| async { selection.call(&ask()).await.unwrap() })).await;
        assert_eq!((first.calls(), second.calls()), (5, 5));
        drop(running);
        assert!(selection.candidates.iter().all(|c| c.deployment.outstanding() == 0));
    }

    #[tokio::test]
    async fn one_that_rests_is_left_alone_and_its_reason_is_told() {
        let (ill, fake) = candidate("a", Fake::says("hi").after_failures(3));
        let selection = Selection::new(vec![ill]).unwrap();
        for _ in 0..5 {
            assert!(selection.call(&ask()).await.is_err());
        }
        assert_eq!(fake.calls(), 3);
        let error = selection.call(&ask()).await.unwrap_err();
        assert!(error.kind() == Kind::Unavailable && error.get_retry_after().is_some());
        assert_eq!(error.message(), "the fake fails as it was told to");
    }

    #[tokio::test]
    async fn a_finished_reply_makes_it_ready() {
        let (well, _) = candidate("a", Fake::says("hi"));
        let deployment = well.deployment.clone();
        let selection = Selection::new(vec![well]).unwrap();
        assert_eq!(deployment.status(), Status::Unknown);
        selection.call(&ask()).await.unwrap().events().collect::<Vec<_>>().await;
        assert_eq!(deployment.status(), Status::Ready);
    }

    fn three() -> (Selection, Vec<Arc<Fake>>) {
        let slow = || Fake::new(crate::provider::fake::Config { says: "hi".into(), ..Default::default() });
        let (candidates, fakes) = ["a", "b", "c"].map(|name| candidate(name, slow())).into_iter().unzip();
        (Selection::new(candidates).unwrap(), fakes)
    }

    fn ask_in(session: &str) -> Call {
        ask().in_context(Context { session: Some(session.into()), ..Context::default() })
    }

    #[tokio::test]
    async fn a_session_meets_the_same_deployment_and_sessions_are_shared_out() {
        let (selection, fakes) = three();
        for session in 0..30 {
            for _ in 0..4 {
                selection.call(&ask_in(&session.to_string())).await.unwrap().chat().await.unwrap();
            }
        }
        let counts: Vec<usize> = fakes.iter().map(|fake| fake.calls()).collect();
        assert!(counts.iter().all(|count| count % 4 == 0 && *count >= 12), "{counts:?}");
    }

    #[tokio::test]
    async fn a_session_that_asks_for_much_at_once_overloads_nobody() {
        let (selection, _) = three();
        let mut running = Vec::new();
        for _ in 0..12 {
            running.push(selection.call(&ask_in("busy")).await.unwrap());
        }
        let load: Vec<usize> = selection.candidates.iter().map(|c| c.deployment.outstanding()).collect();
        assert!(load.iter().all(|&load| load <= 5), "{load:?}");
        assert!(load.contains(&5), "and its own has the most: {load:?}");
    }

    #[tokio::test]
    async fn prompts_that_begin_alike_meet_the_same_deployment() {
        let (selection, fakes) = three();
        let system = "x".repeat(4000);
        for question in ["one", "two", "three"] {
            let body = format!(
                r#"{{"model":"m","messages":[{{"role":"system","content":"{system}"}},{{"role":"user","content":"{question}"}}]}}"#
            );
            let call = Call::read(Operation::Chat, crate::dialect::openai(), body.into()).unwrap();
            selection.call(&call).await.unwrap().chat().await.unwrap();
        }
        let mut counts: Vec<usize> = fakes.iter().map(|fake| fake.calls()).collect();
        counts.sort_unstable();
        assert_eq!(counts, [0, 0, 3]);
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_says_it_is_busy_is_left_alone_as_long_as_it_asked_for() {
        let (busy, _) = candidate("a", Fake::says("a"));
        let (other, fake) = candidate("b", Fake::says("b"));
        busy.deployment.health.failed(&Error::new(Kind::RateLimited, "slow").retry_after(Duration::from_secs(3)));
        assert_eq!(busy.deployment.status(), Status::Unknown, "it is not ill");
        let selection = Selection::new(vec![busy, other]).unwrap();
        selection.call(&ask()).await.unwrap().chat().await.unwrap();
        assert_eq!(fake.calls(), 1);
        tokio::time::advance(Duration::from_secs(3)).await;
        selection.call(&ask()).await.unwrap().chat().await.unwrap();
        assert_eq!(fake.calls(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn where_all_say_that_they_are_busy_nobody_is_sent_on_and_the_soonest_is_told() {
        let says = |kind, seconds| Error::new(kind, "not now").retry_after(Duration::from_secs(seconds));
        let (first, fake) = candidate("a", Fake::says("a"));
        first.deployment.health.failed(&says(Kind::RateLimited, 5));
        let alone = Selection::new(vec![first]).unwrap();
        let told = |error: Error| (error.kind(), error.get_retry_after().unwrap().as_secs());
        tokio::time::advance(Duration::from_secs(2)).await;
        assert_eq!(told(alone.call(&ask()).await.unwrap_err()), (Kind::RateLimited, 3));
        let (second, other) = candidate("b", Fake::says("b"));
        second.deployment.health.failed(&says(Kind::Overloaded, 1));
        let mut both = alone;
        both.candidates.push(second);
        assert_eq!(told(both.call(&ask()).await.unwrap_err()), (Kind::Overloaded, 1));
        assert_eq!((fake.calls(), other.calls()), (0, 0));
        tokio::time::advance(Duration::from_secs(1)).await;
        let tried = ask();
        tried.context.tell(|p| p.tried.push("b".into()));
        both.call(&tried).await.unwrap();
        assert_eq!((fake.calls(), other.calls()), (0, 1), "one that was tried, rather than one that must not be");
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_loads_or_is_to_be_mended_draws_no_calls_from_those_that_answer() {
        type Say = fn(&Deployment);
        let says: [Say; 4] = [
            |d| d.health.failed(&Error::new(Kind::Loading, "it is being loaded")),
            |d| d.health.refused(&Error::new(Kind::Unauthorized, "the key is wrong")),
            |d| d.health.failed(&Error::new(Kind::Unavailable, "refused")), // it starts
            |d| d.drain(true),
        ];
        for says in says {
            let (well, good) = candidate("a", Fake::says("a"));
            let (out, bad) = candidate("b", Fake::says("b"));
            let config = super::super::health::Config { canary: Some(true), ..Default::default() };
            let proven = Deployment::with("b".into(), Some("m".into()), bad.clone(), &config);
            let out = Candidate { deployment: Arc::new(proven), ..out };
            out.deployment.health.is_watched();
            says(&out.deployment);
            tokio::time::advance(DOUBT_IS_OVER).await;
            let selection = Selection::new(vec![well, out]).unwrap();
            let running: Vec<_> =
                futures_util::future::join_all((0..4).map(|_| async { selection.call(&ask()).await.unwrap() })).await;
            assert_eq!((good.calls(), bad.calls()), (4, 0));
            drop(running);
        }
    }

    /// Whoever failed so long ago is asked like others, if nothing else is known of it.
    const DOUBT_IS_OVER: Duration = Duration::from_secs(3);

    #[tokio::test]
    async fn the_soonest_tells_and_one_that_its_owner_drains_only_if_there_is_no_other() {
        let (drained, _) = candidate("a", Fake::says("a"));
        drained.deployment.drain(true);
        let (rests, _) = candidate("b", Fake::says("b"));
        (0..3).for_each(|_| rests.deployment.health.failed(&Error::new(Kind::Upstream, "gone")));
        let (busy, _) = candidate("c", Fake::says("c"));
        busy.deployment.health.failed(&Error::new(Kind::RateLimited, "no").retry_after(Duration::from_secs(600)));
        let selection = Selection::new(vec![drained, busy, rests]).unwrap();
        let error = selection.call(&ask()).await.unwrap_err();
        assert_eq!((error.kind(), error.message()), (Kind::Unavailable, "gone"));
        assert!(error.get_retry_after().unwrap() <= Duration::from_secs(2), "{error:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_rest_one_caller_tries_and_the_others_come_when_its_answer_has_begun() {
        let says = crate::provider::fake::Config { says: "hi".into(), first_ms: 1_000, ..Default::default() };
        let (ill, fake) = candidate("a", Fake::new(says));
        (0..3).for_each(|_| ill.deployment.health.failed(&Error::new(Kind::Upstream, "gone")));
        let selection = Selection::new(vec![ill]).unwrap();
        tokio::time::advance(Duration::from_secs(2)).await;
        let all =
            || async { futures_util::future::join_all((0..16).map(|_| async { selection.call(&ask()).await })).await };
        let came: Vec<_> = all().await;
        let told: Vec<_> = came.iter().filter_map(|answer| answer.as_ref().err()).collect();
        assert_eq!((fake.calls(), told.len()), (1, 15));
        assert!(told.iter().all(|e| e.kind() == Kind::Unavailable && e.get_retry_after() == Some(TRIED)));
        assert!(all().await.iter().all(Result::is_ok), "its answer has begun, and is not over");
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_has_just_failed_is_asked_after_the_others_and_a_little_later_as_before() {
        let (failed, ill) = candidate("a", Fake::says("a"));
        let (other, well) = candidate("b", Fake::says("b"));
        failed.deployment.health.failed(&Error::new(Kind::Upstream, "its last answer broke off"));
        let selection = Selection::new(vec![failed, other]).unwrap();
        selection.call(&ask()).await.unwrap().chat().await.unwrap();
        assert_eq!((ill.calls(), well.calls()), (0, 1));
        tokio::time::advance(Duration::from_secs(2)).await;
        selection.call(&ask()).await.unwrap().chat().await.unwrap();
        assert_eq!((ill.calls(), well.calls()), (1, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_house_whose_model_loads_is_asked_again_until_it_has_loaded() {
        /// Lists its model at once, as our own server does, and can be asked after a while.
        struct Loads(tokio::time::Instant);
        impl Provider for Loads {
            fn serves(&self) -> Operations {
                Operations::CHAT | Operation::Models.into()
            }
            fn call<'a>(&'a self, call: &'a Call) -> BoxFuture<'a, Result<Reply>> {
                let is_there = self.0.elapsed() > Duration::from_secs(20);
                Box::pin(std::future::ready(match call.operation {
                    Operation::Models => Ok(Reply::of(Frame::Models(Vec::new()))),
                    _ if is_there => Ok(Reply::says("hello")),
                    _ => Err(Error::new(Kind::Loading, "it is being loaded")),
                }))
            }
        }
        let host = Arc::new(Loads(tokio::time::Instant::now()));
        let deployment = Arc::new(Deployment::new("a".into(), Some("m".into()), host.clone()));
        let selection = Selection::new(vec![Candidate { deployment, stack: host }]).unwrap();
        let ask_within = |seconds| {
            let context = Context { patience: Duration::from_secs(seconds), ..Context::default() };
            ask().in_context(context)
        };
        assert_eq!(selection.call(&ask_within(0)).await.unwrap_err().kind(), Kind::Loading);
        assert_eq!(selection.call(&ask_within(5)).await.unwrap_err().kind(), Kind::Loading);
        assert_eq!(selection.call(&ask_within(60)).await.unwrap().chat().await.unwrap().text, "hello");
    }
}
