//! Shows an answer as it is made, and stops the model early: dropping the stream is all it takes.
use std::io::Write;

use llm_core::{Event, Llm};

#[tokio::main]
async fn main() -> llm_core::Result<()> {
    let llm = Llm::from_env(&|name| std::env::var(name).ok(), &[llm_engine::KIND])?;

    // The text alone.
    let mut story = llm.stream("Tell me a story about a lighthouse.").await?;
    let mut pieces = 0;
    while let Some(text) = story.next_text().await? {
        print!("{text}");
        let _ = std::io::stdout().flush();
        pieces += 1;
        if pieces == 100 {
            break; // enough: the model stops with the drop below
        }
    }
    drop(story);
    println!();

    // Everything there is: words, thinking, tool calls, the end and its cost.
    let mut answer = llm.stream("What is two and two?").await?;
    while let Some(event) = answer.next().await? {
        match event {
            Event::Text(text) => print!("{text}"),
            Event::Finish(reason) => println!("\nended by {}", reason.as_str()),
            _ => {}
        }
    }
    Ok(())
}
