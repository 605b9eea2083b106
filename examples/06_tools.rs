//! Lets the model call a function of this program, as often as it wants to, until it has its answer. A model that was made for
//! tools calls it; one that was not answers by itself.
use llm_core::{ChatRequest, Error, Llm, Tool};
use serde_json::{Value, json};

#[tokio::main]
async fn main() -> llm_core::Result<()> {
    let llm = Llm::from_env(&|name| std::env::var(name).ok(), &[llm_engine::KIND])?;

    let schema = json!({"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]});
    let weather = Tool::new("weather", "The weather in a city, now", schema, async |arguments: Value| {
        let city = arguments["city"].as_str().ok_or_else(|| Error::invalid("`city` is missing"))?;
        Ok(format!("18 degrees and rain in {city}"))
    });

    let question = ChatRequest::new("Do I need an umbrella in Paris?").temperature(0.0);
    match llm.chat_with(question, &[weather], 5).await {
        Ok(run) => {
            println!("{}\n{} messages, {} tokens made", run.reply, run.messages.len(), run.usage.completion_tokens)
        }
        Err(error) => println!("this model takes no tools: {error}"),
    }
    Ok(())
}
