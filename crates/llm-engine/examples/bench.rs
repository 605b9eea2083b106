//! The engine's side of `scripts/bench-engine`: reads a line of JSON with prompts, answers them at once, and writes a line
//! with the tokens read and made and the seconds that took.
use futures_util::StreamExt;
use futures_util::future::join_all;
use llm_core::{Call, CompleteRequest, Delivery, Event, Frame, Provider, Result, Usage};
use llm_engine::{Config, EngineProvider, instructions};
use serde::Deserialize;
use std::io::{BufRead, stdin};
use std::time::Instant;

#[derive(Deserialize)]
struct Run {
    prompts: Vec<String>,
    max_tokens: u32,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let path = Some(std::env::args().nth(1).expect("the path of a GGUF file").into());
    let threads = std::env::args().nth(2).and_then(|threads| threads.parse().ok());
    let engine = EngineProvider::new(Config { path, threads, context: Some(2048), ..Config::default() })?;
    engine.life().expect("an engine has a life").load().await?;
    println!("{}", instructions());
    for line in stdin().lock().lines() {
        let line = line.expect("the script's lines are text");
        println!("{}", run(&engine, serde_json::from_str(&line).expect("the script's lines are runs")).await?);
    }
    Ok(())
}

async fn run(engine: &EngineProvider, run: Run) -> Result<serde_json::Value> {
    let began = Instant::now();
    let answers = join_all(run.prompts.into_iter().map(|prompt| answer(engine, prompt, run.max_tokens))).await;
    let seconds = began.elapsed().as_secs_f64();
    let (mut read, mut made) = (0, 0);
    for usage in answers {
        let usage = usage?;
        read += usage.prompt_tokens;
        made += usage.completion_tokens;
    }
    Ok(serde_json::json!({"read": read, "made": made, "seconds": seconds}))
}

async fn answer(engine: &EngineProvider, prompt: String, max_tokens: u32) -> Result<Usage> {
    let mut request = CompleteRequest::new(prompt);
    (request.sampling.temperature, request.sampling.max_tokens) = (Some(0.0), Some(max_tokens));
    request.extra.insert("ignore_eos".into(), true.into());
    let mut frames = engine.call(&Call::new(request, Delivery::Stream)).await?.events();
    let mut cost = Usage::default();
    while let Some(frame) = frames.next().await {
        if let Frame::Event(Event::Usage(usage)) = frame? {
            cost = usage;
        }
    }
    Ok(cost)
}
