//! How a deployment shows that it is well, or is not.
use super::*;
use std::sync::Mutex as Lock;

/// A host whose list of models is what it is told to be, call by call; the last holds for all further ones.
struct Lists(Lock<Vec<Result<&'static str>>>, AtomicUsize);

impl Lists {
    fn of(answers: &[Result<&'static str>]) -> Arc<Lists> {
        Arc::new(Lists(Lock::new(answers.to_vec()), AtomicUsize::new(0)))
    }
}

impl Provider for Lists {
    fn serves(&self) -> Operations {
        Operation::Models.into()
    }

    fn call<'a>(&'a self, call: &'a Call) -> BoxFuture<'a, Result<Reply>> {
        assert_eq!(call.operation, Operation::Models, "a probe costs no token");
        Box::pin(async move {
            self.1.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(Duration::from_millis(10)).await;
            let mut answers = self.0.lock().unwrap();
            let answer = if answers.len() > 1 { answers.remove(0) } else { answers[0].clone() };
            let model = |id: &str| ModelInfo { id: id.into(), ..ModelInfo::default() };
            Ok(Reply::of(Frame::Models(answer?.split(' ').map(model).collect())))
        })
    }
}

fn deployment(host: &Arc<Lists>) -> Deployment {
    Deployment::new("d".into(), Some("coder".into()), host.clone())
}

fn gone() -> Result<&'static str> {
    Err(Error::new(Kind::Unavailable, "gone"))
}

#[tokio::test(start_paused = true)]
async fn many_who_ask_at_once_are_told_one_answer() {
    let host = Lists::of(&[Ok("coder chat")]);
    let deployment = deployment(&host);
    let answers = futures_util::future::join_all((0..100).map(|_| deployment.probe())).await;
    assert!(answers.iter().all(Result::is_ok) && deployment.status() == Status::Ready);
    assert_eq!(host.1.load(Ordering::Relaxed), 1);
    tokio::time::advance(FRESH_WELL).await;
    deployment.probe().await.unwrap();
    assert_eq!(host.1.load(Ordering::Relaxed), 2, "an old answer is no answer");
}

#[tokio::test(start_paused = true)]
async fn one_that_fails_once_is_asked_once_more_and_one_that_is_gone_is_told_for_a_moment() {
    let flickers = Lists::of(&[gone(), Ok("coder")]);
    deployment(&flickers).probe().await.unwrap();
    let dead = Lists::of(&[gone()]);
    let deployment = deployment(&dead);
    for _ in 0..5 {
        assert_eq!(deployment.probe().await.unwrap_err().kind(), Kind::Unavailable);
    }
    assert_eq!((dead.1.load(Ordering::Relaxed), deployment.status()), (2, Status::Failing("gone".into())));
    tokio::time::advance(FRESH_SICK).await;
    assert!(deployment.probe().await.is_err());
    assert_eq!(dead.1.load(Ordering::Relaxed), 4);
}

#[tokio::test(start_paused = true)]
async fn one_that_hangs_is_given_up() {
    let fake = crate::provider::fake::Config { first_ms: 60_000, ..Default::default() };
    let slow = Deployment::new("d".into(), None, Arc::new(crate::provider::fake::Fake::new(fake)));
    assert_eq!(slow.probe().await.unwrap_err().kind(), Kind::Timeout);
}

#[tokio::test(start_paused = true)]
async fn a_host_without_the_model_is_well_and_says_what_it_has() {
    let deployment = deployment(&Lists::of(&[Ok("chat llama3:latest")]));
    let error = deployment.probe().await.unwrap_err();
    let message = "the upstream does not list the model coder; it lists: chat, llama3:latest";
    assert_eq!((error.message(), error.get_code()), (message, Some("model_not_found")));
    assert_eq!(deployment.status(), Status::Failing(message.into()));
    deployment.health.succeeded();
    tokio::time::advance(FRESH_SICK).await;
    assert!(deployment.probe().await.is_err());
    assert_eq!(deployment.status(), Status::Ready, "it knows ours by another name");
    for (listed, name) in [("llama3:latest", "llama3"), ("llama3:latest", "llama3:latest"), ("a b", "b")] {
        let host: Arc<dyn Provider> = Lists::of(&[Ok(listed)]);
        Deployment::new("d".into(), Some(name.into()), host).probe().await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn one_that_answers_and_keeps_no_list_is_known_by_its_answers() {
    let page = || Err(invalid_answer("the upstream answered 200 with something that is no JSON object"));
    let deployment = deployment(&Lists::of(&[page()]));
    assert_eq!(deployment.probe().await.unwrap_err().get_code(), Some(INVALID_ANSWER), "is this the right address?");
    assert_eq!(deployment.status().name(), "error");
    tokio::time::advance(FRESH_SICK).await;
    deployment.health.succeeded();
    for _ in 0..10 {
        tokio::time::advance(FRESH_WELL).await;
        deployment.probe().await.unwrap();
        assert_eq!(deployment.status(), Status::Ready);
    }
    deployment.health.failed(&gone().unwrap_err());
    tokio::time::advance(FRESH_WELL).await;
    assert!(deployment.probe().await.is_err(), "and nothing speaks for it any more");
}

#[tokio::test(start_paused = true)]
async fn a_key_that_is_refused_and_a_list_that_is_not_there_are_told_and_an_answer_heals_them() {
    for kind in [Kind::Unauthorized, Kind::NotFound] {
        let deployment = deployment(&Lists::of(&[Err(Error::new(kind, "no"))]));
        assert!(deployment.probe().await.is_err());
        assert_eq!((deployment.status(), deployment.is_resting()), (Status::Failing("no".into()), false), "{kind:?}");
        deployment.health.succeeded();
        assert_eq!(deployment.status(), Status::Ready);
    }
    let renewed = deployment(&Lists::of(&[Ok("coder"), Err(Error::new(Kind::Unauthorized, "the key is old"))]));
    renewed.probe().await.unwrap();
    renewed.health.succeeded();
    tokio::time::advance(FRESH_WELL).await;
    assert!(renewed.probe().await.is_err());
    assert_eq!(renewed.status(), Status::Failing("the key is old".into()));
}

#[tokio::test]
async fn a_service_wants_to_be_told_which_of_its_models_is_meant() {
    use crate::provider::{hosts, http};
    let config = || http::Config { base_url: Some("http://127.0.0.1:1".into()), ..http::Config::default() };
    let named = |host: &str| {
        let http = http::Http::new(hosts::find(host).unwrap(), config()).unwrap();
        let deployment = Deployment::new("d".into(), None, Arc::new(http));
        async move { deployment.name_for(&Call::new(ChatRequest::new("?"), Delivery::Whole)).await.unwrap_err() }
    };
    let error = named("openai").await;
    assert_eq!((error.kind(), error.get_param()), (Kind::Invalid, Some("model")), "{error}");
    assert_eq!(named("vllm").await.kind(), Kind::Unavailable, "whose one model needs no name");
}

/// A server of one's own: refuses so many connections, then lists a model, and answers as it is told to.
struct Starts {
    refusals: AtomicUsize,
    answers: Lock<Vec<Result<&'static str>>>,
    asked: AtomicUsize,
}

impl Starts {
    fn after(refusals: usize, answers: &[Result<&'static str>]) -> Arc<Starts> {
        let (refusals, answers) = (AtomicUsize::new(refusals), Lock::new(answers.to_vec()));
        Arc::new(Starts { refusals, answers, asked: AtomicUsize::new(0) })
    }
}

impl Provider for Starts {
    fn serves(&self) -> Operations {
        Operations::CHAT | Operation::Embed.into() | Operation::Models.into()
    }

    fn is_free(&self) -> bool {
        true
    }

    fn call<'a>(&'a self, call: &'a Call) -> BoxFuture<'a, Result<Reply>> {
        Box::pin(async move {
            let fewer = |left: usize| left.checked_sub(1);
            if self.refusals.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fewer).is_ok() {
                return Err(Error::new(Kind::Unavailable, "nobody listens"));
            }
            if call.operation == Operation::Models {
                return Ok(Reply::of(Frame::Models(vec![ModelInfo { id: "coder".into(), ..ModelInfo::default() }])));
            }
            self.asked.fetch_add(1, Ordering::Relaxed);
            let mut answers = self.answers.lock().unwrap();
            let answer = if answers.len() > 1 { answers.remove(0) } else { answers[0].clone() };
            Ok(Reply::says(answer?))
        })
    }
}

fn starting(host: &Arc<Starts>) -> Deployment {
    let deployment = Deployment::new("d".into(), Some("coder".into()), host.clone());
    deployment.health.is_watched();
    deployment
}

#[tokio::test(start_paused = true)]
async fn a_server_that_starts_is_loading_until_it_has_answered_and_is_then_asked_no_more() {
    let host = Starts::after(3, &[Ok("1")]);
    let deployment = starting(&host);
    assert_eq!(deployment.status(), Status::Unknown);
    for _ in 0..2 {
        // The first look is two.
        let was = deployment.probe().await;
        tokio::time::advance(FRESH_SICK).await;
        if was.is_err() {
            assert_eq!(deployment.status(), Status::Loading(None));
        }
    }
    deployment.probe().await.unwrap();
    assert_eq!((deployment.status(), host.asked.load(Ordering::Relaxed)), (Status::Ready, 1));
    for _ in 0..10 {
        tokio::time::advance(FRESH_WELL).await;
        deployment.probe().await.unwrap();
    }
    assert_eq!(host.asked.load(Ordering::Relaxed), 1, "what is well costs no token");
    host.refusals.store(2, Ordering::Relaxed);
    tokio::time::advance(FRESH_WELL).await;
    assert!(deployment.probe().await.is_err());
    assert_eq!(deployment.status(), Status::Failing("nobody listens".into()), "it was ready: this is no start");
}

#[tokio::test(start_paused = true)]
async fn a_start_that_takes_too_long_is_a_failure() {
    let deployment = starting(&Starts::after(99, &[Ok("1")]));
    assert!(deployment.probe().await.is_err());
    assert_eq!(deployment.status(), Status::Loading(None));
    tokio::time::advance(Duration::from_secs(600)).await;
    assert_eq!(deployment.status(), Status::Failing("nobody listens".into()));
}

#[tokio::test(start_paused = true)]
async fn a_model_that_lists_itself_and_dies_of_its_first_question_is_not_ready() {
    let broken = || Err(Error::new(Kind::Upstream, "EngineDeadError"));
    let host = Starts::after(0, &[broken(), broken(), Ok("1")]);
    let deployment = starting(&host);
    for _ in 0..2 {
        assert!(deployment.probe().await.is_err());
        assert_eq!(deployment.status(), Status::Failing("EngineDeadError".into()));
        tokio::time::advance(FRESH_SICK).await;
    }
    deployment.probe().await.unwrap();
    assert_eq!(deployment.status(), Status::Ready);
    // A client's question fails: the status changes at once, and a token shows that it is well again.
    deployment.health.failed(&Error::new(Kind::Upstream, "broke"));
    assert_eq!(deployment.status(), Status::Failing("broke".into()));
    tokio::time::advance(FRESH_WELL).await;
    deployment.probe().await.unwrap();
    assert_eq!((deployment.status(), host.asked.load(Ordering::Relaxed)), (Status::Ready, 4));
}

#[tokio::test(start_paused = true)]
async fn a_model_of_vectors_is_asked_for_a_vector() {
    let none = || Err(Error::new(Kind::NotFound, "no such route"));
    let host = Starts::after(0, &[none(), Ok("1")]);
    starting(&host).probe().await.unwrap();
    assert_eq!(host.asked.load(Ordering::Relaxed), 2);
    let deployment = starting(&Starts::after(0, &[none()]));
    assert!(deployment.probe().await.is_err());
    assert_eq!(deployment.status(), Status::Failing("no such route".into()));
}

#[tokio::test(start_paused = true)]
async fn who_is_told_that_a_model_loads_may_wait_for_it() {
    let host = Starts::after(8, &[Ok("hello")]);
    let deployment = Arc::new(starting(&host));
    let candidate = super::super::selection::Candidate { deployment, stack: host };
    let selection = super::super::Selection::new(vec![candidate]).unwrap();
    let ask = |patience| {
        let context = Context { patience, ..Context::default() };
        Call::new(ChatRequest::new("?").model("coder"), Delivery::Stream).in_context(context)
    };
    let error = selection.call(&ask(Duration::ZERO)).await.unwrap_err();
    assert_eq!((error.kind(), error.get_code()), (Kind::Loading, Some("model_loading")));
    assert!(error.get_retry_after().is_some());
    let error = selection.call(&ask(Duration::from_millis(100))).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Loading);
    let answer = selection.call(&ask(Duration::from_secs(60))).await.unwrap().chat().await.unwrap();
    assert_eq!(answer.text, "hello");
}

#[tokio::test(start_paused = true)]
async fn one_that_is_drained_is_asked_nothing_new() {
    let host = Starts::after(0, &[Ok("1")]);
    let deployment = Arc::new(starting(&host));
    deployment.drain(true);
    deployment.probe().await.unwrap();
    assert_eq!((deployment.status(), host.asked.load(Ordering::Relaxed)), (Status::Draining, 0));
    let candidate = super::super::selection::Candidate { deployment, stack: host };
    let selection = super::super::Selection::new(vec![candidate]).unwrap();
    let error = selection.call(&Call::new(ChatRequest::new("?"), Delivery::Whole)).await.unwrap_err();
    assert_eq!((error.kind(), error.message()), (Kind::Unavailable, "it is being drained"));
}
