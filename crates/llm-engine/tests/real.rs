//! The default models themselves: answers that make sense, vectors that do, and how quickly.
mod common;

use common::*;
use llm_core::{EmbedRequest, Frame, Kind};
use llm_engine::{Config, EngineProvider};
use std::time::{Duration, Instant};

/// A default model; `make test` fetches it first, and without it these tests fail and say how to fetch it.
fn config_of(role: &str) -> Config {
    Config { role: Some(role.into()), context: Some(4096), threads: Some(2), ..Config::default() }
}

async fn vectors(engine: &EngineProvider, texts: &[&str]) -> Vec<Vec<f32>> {
    match frame(engine, EmbedRequest::new(texts.iter().copied())).await.unwrap() {
        Frame::Vectors(embeddings) => embeddings.vectors,
        other => panic!("{other:?}"),
    }
}

fn cosine(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(x, y)| x * y).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn vectors_are_the_same_alone_and_in_a_crowd_and_keep_their_order() {
    let engine = loaded(config_of("embedding")).await;
    let texts: Vec<String> =
        (0..300).map(|n| format!("Sentence number {n} is about {}.", "fish ".repeat(n % 40))).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let alone = vectors(&engine, &texts[17..18]).await;
    let all = futures_util::future::join_all(texts.chunks(50).map(|chunk| vectors(&engine, chunk))).await;
    let all: Vec<Vec<f32>> = all.into_iter().flatten().collect();
    assert_eq!(all.len(), 300);
    assert!(cosine(&all[17], &alone[0]) > 0.9999);
    assert!(cosine(&all[18], &alone[0]) < 0.9999);
}

#[tokio::test]
async fn a_client_that_leaves_in_the_middle_of_a_batch_of_texts_frees_the_engine_at_once() {
    let engine = loaded(config_of("embedding")).await;
    let texts: Vec<String> = (0..200).map(|n| format!("{n}. {}", "The sea is wide and deep. ".repeat(30))).collect();
    {
        let asking = ask(&engine, EmbedRequest::new(texts));
        tokio::pin!(asking);
        let began = Instant::now();
        while engine.running() == 0 {
            assert!(began.elapsed() < Duration::from_secs(20), "the texts were never begun");
            let reading = tokio::time::timeout(Duration::from_millis(5), &mut asking).await;
            assert!(reading.is_err(), "40,000 tokens cannot be read so quickly");
        }
    }
    let took = until("the engine is free", Duration::from_millis(100), || engine.running() == 0).await;
    eprintln!("the engine was free after {took:?}");
    assert_eq!(vectors(&engine, &["the sea"]).await.len(), 1);
    until("nothing is left to do", Duration::from_millis(100), || engine.running() == 0).await;
}

#[tokio::test]
async fn what_an_embedding_model_cannot_do_is_said_by_name() {
    let engine = loaded(config_of("embedding")).await;
    assert_eq!(kind_of(ask(&engine, greedy("Hello")).await), Kind::Unsupported);
    // With no text to compute, the engine's thread would turn round and round, and nobody would be answered.
    assert_eq!(kind_of(frame(&engine, EmbedRequest::default()).await), Kind::Invalid);
    let conversation = EmbedRequest { messages: greedy("Hello").messages, ..EmbedRequest::default() };
    assert_eq!(kind_of(frame(&engine, conversation).await), Kind::Unsupported);
    let empty = frame(&engine, EmbedRequest::new([""])).await;
    assert!(empty.is_ok(), "the tokenizer's own first and last tokens make a text of it");
    let error = frame(&engine, EmbedRequest::new(["short".to_owned(), "word ".repeat(9000)])).await.unwrap_err();
    assert_eq!((error.kind(), error.get_param()), (Kind::ContextLength, Some("input")));
    assert!(error.to_string().contains("input[1]"), "{error}");
}

#[tokio::test]
async fn the_default_chat_model_knows_the_capital_of_france() {
    let engine = loaded(config_of("chat")).await;
    let answer = text(&engine, greedy("What is the capital of France?").max_tokens(32)).await;
    assert!(answer.contains("Paris"), "{answer}");
}

#[tokio::test]
async fn a_client_that_leaves_in_the_middle_of_its_prompt_frees_its_slot_at_once() {
    let engine = loaded(config_of("chat")).await;
    let prompt = "Tell me everything about the sea. ".repeat(400);
    {
        let asking = ask(&engine, greedy(&prompt));
        tokio::pin!(asking);
        let began = Instant::now();
        while engine.running() == 0 {
            assert!(began.elapsed() < Duration::from_secs(20), "the prompt was never begun");
            let reading = tokio::time::timeout(Duration::from_millis(5), &mut asking).await;
            assert!(reading.is_err(), "3,000 tokens cannot be read so quickly");
        }
    }
    let took = until("the slot is free", Duration::from_millis(100), || engine.running() == 0).await;
    eprintln!("the slot was free after {took:?}");
    assert!(text(&engine, greedy("What is the capital of France?").max_tokens(32)).await.contains("Paris"));
}
