//! Loading, unloading, and files that cannot be loaded.
mod common;

use common::*;
use futures_util::StreamExt;
use llm_core::{Call, Context, Delivery, Frame, Gateway, Kind, LifeStatus, Operation, Provider, Request};
use llm_engine::{Config, EngineProvider, KIND};
use std::sync::Arc;
use std::time::Duration;

const READY: LifeStatus = LifeStatus::Ready { max_model_len: 2048 };

#[tokio::test]
async fn building_loads_nothing_and_the_first_call_starts_the_loading() {
    let engine = EngineProvider::new(config()).unwrap();
    assert_eq!(life(&engine).status(), LifeStatus::Unloaded);
    let hurried = Context { patience: Duration::ZERO, ..Context::default() };
    let hurried = Call::new(greedy("Hello"), Delivery::Whole).in_context(hurried);
    let error = engine.call(&hurried).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Loading);
    assert!(error.get_retry_after().is_some());
    until("it is loaded", Duration::from_secs(30), || life(&engine).status() == READY).await;
    assert!(engine.call(&hurried).await.is_ok());
}

#[tokio::test]
async fn a_program_with_patience_waits_for_the_loading() {
    let engine = EngineProvider::new(config()).unwrap();
    let (one, other) = tokio::join!(ask(&engine, greedy("Hello")), ask(&engine, greedy("Hello")));
    assert!(one.is_ok() && other.is_ok());
}

#[tokio::test]
async fn loading_twice_is_loading_once() {
    let engine = EngineProvider::new(config()).unwrap();
    let (one, other) = tokio::join!(life(&engine).load(), life(&engine).load());
    assert!(one.is_ok() && other.is_ok());
    assert_eq!(life(&engine).status(), READY);
}

#[tokio::test]
async fn unloading_lets_the_running_answer_end_and_loading_works_again() {
    let engine = loaded(config()).await;
    let mut frames = ask(&engine, long("Count to 20.", 300)).await.unwrap().events();
    assert!(is_text(&frames.next().await.unwrap()));
    let rest = async {
        let mut finished = false;
        while let Some(frame) = frames.next().await {
            finished |= matches!(frame.unwrap(), Frame::Event(llm_core::Event::Finish(_)));
        }
        finished
    };
    let (unloaded, finished) = tokio::join!(life(&engine).unload(), rest);
    assert!(unloaded.is_ok() && finished);
    assert_eq!(life(&engine).status(), LifeStatus::Unloaded);
    life(&engine).load().await.unwrap();
    assert_eq!(text(&engine, greedy("What is the capital of France?")).await, "The capital of France is Paris.");
}

#[tokio::test]
async fn a_reply_outlives_its_provider() {
    let engine = loaded(config()).await;
    let mut frames = ask(&engine, long("Count to 20.", 300)).await.unwrap().events();
    drop(engine);
    let mut finished = false;
    while let Some(frame) = frames.next().await {
        finished |= matches!(frame.unwrap(), Frame::Event(llm_core::Event::Finish(_)));
    }
    assert!(finished);
}

#[tokio::test]
async fn a_damaged_file_is_an_error_that_names_it_and_stays_told() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("half.gguf");
    let whole = std::fs::read(tiny_chat()).unwrap();
    std::fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    let engine = EngineProvider::new(Config { path: Some(path), ..config() }).unwrap();
    let error = life(&engine).load().await.unwrap_err();
    assert!(error.to_string().contains("half.gguf"), "{error}");
    assert!(matches!(life(&engine).status(), LifeStatus::Failed(why) if why.starts_with("half.gguf ")));
    assert_eq!(kind_of(ask(&engine, greedy("Hello")).await), Kind::Unavailable);
}

#[tokio::test]
async fn a_file_that_comes_late_is_loaded_when_it_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("late.gguf");
    let text = format!("[models.late]\nprovider = 'engine'\npath = {path:?}\ncontext = 2048\nthreads = 1");
    let gateway = Gateway::with(&llm_core::Config::from_toml(&text).unwrap(), &[KIND], Arc::new(())).unwrap();
    let status = || gateway.models()[0].status;
    let watch = async {
        until("it has failed", Duration::from_secs(30), || status() == "error").await;
        let reason = gateway.models()[0].reason.clone().unwrap();
        assert!(reason.starts_with("late.gguf cannot be read"), "where it lies is nobody's business: {reason}");
        std::fs::copy(tiny_chat(), &path).unwrap();
        until("it is loaded", Duration::from_secs(60), || status() == "ready").await;
    };
    tokio::select! {
        () = gateway.run() => unreachable!("it runs until it is dropped"),
        () = watch => {}
    }
}

#[tokio::test]
async fn weights_that_are_no_numbers_fail_the_answer_and_not_the_program() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("nan.gguf");
    let mut bytes = std::fs::read(tiny_chat()).unwrap();
    let half = bytes.len() / 2;
    bytes[half..].fill(0xff);
    std::fs::write(&path, bytes).unwrap();
    let engine = loaded(Config { path: Some(path), ..config() }).await;
    assert_eq!(kind_of(answer(&engine, greedy("Hello")).await), Kind::Internal);
    assert_eq!(kind_of(answer(&engine, greedy("Hello")).await), Kind::Internal);
}

#[tokio::test]
async fn the_house_builds_an_engine_from_its_settings_and_asks_what_it_is() {
    let settings = format!("path = {:?}\ncontext = 2048\nthreads = 1", tiny_chat());
    let engine = (KIND.build)(&settings.parse().unwrap()).unwrap();
    assert!(engine.serves().contains(Operation::Chat) && !engine.serves().contains(Operation::Rerank));
    engine.life().unwrap().load().await.unwrap();
    let call = llm_core::Call::new(Request::Models, llm_core::Delivery::Whole);
    let Frame::Models(models) = engine.call(&call).await.unwrap().events().next().await.unwrap().unwrap() else {
        panic!("no models")
    };
    assert_eq!((models[0].id.as_str(), models[0].max_model_len), ("tiny-chat-f16", Some(2048)));
    let wrong = "path = 'a.gguf'\nslots = 0".parse().unwrap();
    assert_eq!((KIND.build)(&wrong).err().unwrap().to_string(), "slots: must be 1 to 256");
}
