//! Asks one question, and prints the answer and what it cost.
//!
//! `cargo run --profile fast --example 01_chat` asks the model in this process; with VLLM_BASE_URL set it asks that vLLM.
use llm_core::{ChatRequest, Llm};

#[tokio::main]
async fn main() -> llm_core::Result<()> {
    let llm = Llm::from_env(&|name| std::env::var(name).ok(), &[llm_engine::KIND])?;

    println!("{}", llm.chat("What is the capital of France?").await?);

    let request = ChatRequest::new("Name three colours.").system("You are terse.").temperature(0.0).max_tokens(40);
    let answer = llm.chat(request).await?;
    println!("{answer}");
    if let (Some(usage), Some(reason)) = (answer.usage, answer.finish_reason) {
        println!("{} tokens read, {} made, ended by {}", usage.prompt_tokens, usage.completion_tokens, reason.as_str());
    }
    Ok(())
}
