//! What the engine's tests share: small models, a loaded engine, and answers read to their end.
#![allow(dead_code)]

use futures_util::StreamExt;
use llm_core::{
    Call, ChatReply, ChatRequest, Delivery, Event, FinishReason, Frame, Kind, Life, Provider, Reply, Request, Result,
};
use llm_engine::{Config, EngineProvider};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// A Qwen2 of 2.6 million parameters that knows a few sentences (see tests/models/recipes).
pub(crate) fn tiny_chat() -> PathBuf {
    model("tiny-chat-f16.gguf")
}

/// A model of the repository.
pub(crate) fn model(name: &str) -> PathBuf {
    let path = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/models")).join(name);
    assert!(path.exists(), "{} is missing from the checkout", path.display());
    path
}

/// Small enough for a test, with room for eight.
pub(crate) fn config() -> Config {
    Config { path: Some(tiny_chat()), context: Some(2048), threads: Some(2), ..Config::default() }
}

pub(crate) async fn loaded(config: Config) -> EngineProvider {
    let engine = EngineProvider::new(config).expect("the configuration is right");
    life(&engine).load().await.expect("the model loads");
    engine
}

pub(crate) fn life(engine: &EngineProvider) -> &dyn Life {
    engine.life().expect("an engine has a life")
}

pub(crate) async fn ask(engine: &EngineProvider, request: impl Into<Request>) -> Result<Reply> {
    engine.call(&Call::new(request, Delivery::Stream)).await
}

/// The whole answer.
pub(crate) async fn answer(engine: &EngineProvider, request: impl Into<Request>) -> Result<ChatReply> {
    let mut frames = ask(engine, request).await?.events();
    let mut reply = ChatReply::default();
    while let Some(frame) = frames.next().await {
        match frame? {
            Frame::Event(event) => reply.add(event),
            other => panic!("no event: {other:?}"),
        }
    }
    Ok(reply)
}

/// The whole answer's text, which must have come to an end.
pub(crate) async fn text(engine: &EngineProvider, request: impl Into<Request>) -> String {
    let reply = answer(engine, request).await.expect("an answer");
    assert!(reply.finish_reason.is_some(), "an answer without an end");
    reply.text
}

/// The only frame of the reply.
pub(crate) async fn frame(engine: &EngineProvider, request: impl Into<Request>) -> Result<Frame> {
    ask(engine, request).await?.events().next().await.expect("a frame")
}

pub(crate) fn greedy(question: &str) -> ChatRequest {
    ChatRequest::new(question).temperature(0.0)
}

/// Goes on for so many tokens, whatever the model would rather do.
pub(crate) fn long(question: &str, tokens: u32) -> ChatRequest {
    greedy(question).max_tokens(tokens).extra("ignore_eos", true)
}

/// Polls until the claim holds; panics after the deadline.
pub(crate) async fn until(what: &str, within: Duration, claim: impl Fn() -> bool) -> Duration {
    let began = Instant::now();
    while !claim() {
        assert!(began.elapsed() < within, "not within {within:?}: {what}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    began.elapsed()
}

pub(crate) fn is_text(frame: &Result<Frame>) -> bool {
    matches!(frame, Ok(Frame::Event(Event::Text(_))))
}

pub(crate) fn kind_of<T: std::fmt::Debug>(result: Result<T>) -> Kind {
    result.expect_err("an error").kind()
}

pub(crate) const STOP: Option<FinishReason> = Some(FinishReason::Stop);
pub(crate) const LENGTH: Option<FinishReason> = Some(FinishReason::Length);
