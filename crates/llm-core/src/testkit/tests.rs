//! The kit's own servers, with a host of ours in front of them.
use std::sync::Arc;
use std::time::Duration;

use toml::Table;

use super::{SCENARIOS, Served, Subject};
use crate::call::*;
use crate::error::{Error, Kind, Result};
use crate::provider::fake::{self, Fake};
use crate::provider::hosts;
use crate::{Config, Llm};

fn host(url: &str) -> Arc<dyn Provider> {
    (hosts::VLLM.build)(&Table::from_iter([("base_url".to_owned(), url.into())])).unwrap()
}

#[tokio::test]
async fn a_host_conforms_in_front_of_a_provider_that_does() {
    let config = fake::Config { says: "It is Paris, I think.".into(), each_ms: 20, ..fake::Config::default() };
    let fake = Arc::new(Fake::new(config));
    let server = Served::start(fake.clone()).await;
    let host = host(&server.url());
    let subject = Subject::new(&*host).model("m").says("It is Paris, I think.").asked_for_long("?");
    subject.running(move || fake.running()).conforms().await.unwrap();
}

/// Fails as it is told to.
struct Fails(Error);

impl Provider for Fails {
    fn call<'a>(&'a self, _: &'a Call) -> BoxFuture<'a, Result<Reply>> {
        Box::pin(std::future::ready(Err(self.0.clone())))
    }
}

#[tokio::test]
async fn an_error_means_the_same_on_the_other_side_of_a_wire() {
    let same = [
        Kind::Invalid,
        Kind::ContextLength,
        Kind::Unauthorized,
        Kind::NotFound,
        Kind::Unsupported,
        Kind::RateLimited,
        Kind::Overloaded,
        Kind::Timeout,
        Kind::Upstream,
    ];
    // A bug over there is nobody's bug here.
    let all = same.map(|kind| (kind, kind)).into_iter().chain([(Kind::Internal, Kind::Upstream)]);
    for (there, here) in all {
        let error = Error::new(there, "no such luck").retry_after(Duration::from_secs(2));
        let server = Served::start(Arc::new(Fails(error))).await;
        for delivery in [Delivery::Whole, Delivery::Stream] {
            let call = Call::new(ChatRequest::new("?").model("m"), delivery);
            let error = host(&server.url()).call(&call).await.unwrap_err();
            assert_eq!((error.kind(), error.message()), (here, "no such luck"));
            if there == Kind::RateLimited {
                assert_eq!(error.get_retry_after(), Some(Duration::from_secs(2)));
            }
        }
    }
}

#[tokio::test]
async fn no_scenario_hangs_and_none_looks_like_a_bug_of_ours() {
    for scenario in SCENARIOS {
        let server = scenario.serve().await;
        let settings = "timeout = { first_s = 0.5, idle_s = 0.5 }\nretry = { max_retries = 0 }\nmodel = 'm'";
        let text = format!("[models.m]\nprovider = 'vllm'\nbase_url = '{}'\n{settings}", server.url());
        let llm = Llm::new(&Config::from_toml(&text).unwrap()).unwrap();
        let answers = async { [llm.chat("?").await.map(drop), streamed(&llm).await] };
        let answers = tokio::time::timeout(Duration::from_secs(30), answers).await;
        for answer in answers.unwrap_or_else(|_| panic!("{scenario:?}: it hangs")) {
            assert!(!answer.as_ref().is_err_and(|e| e.kind() == Kind::Internal), "{scenario:?}: {answer:?}");
        }
    }
}

async fn streamed(llm: &Llm) -> Result<()> {
    let mut answer = llm.stream("?").await?;
    while answer.next().await?.is_some() {}
    Ok(())
}
