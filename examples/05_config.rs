//! Several models in one configuration: a queue in front of one, and another that steps in where it fails.
use llm_core::{ChatRequest, Config, Llm};

const CONFIG: &str = r#"
default_model = "coder"

[models.coder]
provider = "fake"        # "vllm", with base_url = "http://gpu:8000", in real life
failures = 99            # it is down today
retry = { max_retries = 0 }
queue = { limit = 4, waiting = 100 }
fallback = ["general"]

[models.general]
provider = "fake"
says = "I step in."
aliases = ["gpt-4o"]
"#;

#[tokio::main]
async fn main() -> llm_core::Result<()> {
    let llm = Llm::new(&Config::from_toml(CONFIG)?)?;

    println!("{}", llm.chat("Who answers?").await?);
    println!("{}", llm.chat(ChatRequest::new("And who here?").model("gpt-4o")).await?);

    for model in llm.models() {
        println!("{}: {} {}", model.id, model.status, model.reason.unwrap_or_default());
    }
    // A wrong setting is an error with its place, before anything is asked.
    println!("{}", Config::from_toml("[models.x]\nprovidr = 'fake'").unwrap_err());
    Ok(())
}
