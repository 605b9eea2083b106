//! Adds a provider of one's own: one method, and its name in the configuration. Queues, retries, fallbacks and the HTTP
//! server treat it as any other.
use std::sync::Arc;

use llm_core::provider::Kind;
use llm_core::{BoxFuture, Call, Config, Gateway, Llm, Provider, Reply, Result};

/// Says everything backwards.
struct Mirror;

impl Provider for Mirror {
    fn call<'a>(&'a self, call: &'a Call) -> BoxFuture<'a, Result<Reply>> {
        Box::pin(async move { Ok(Reply::says(call.chat()?.last_text().chars().rev().collect::<String>())) })
    }
}

const MIRROR: Kind = Kind::new("mirror", "says everything backwards", |_| Ok(Arc::new(Mirror)));

#[tokio::main]
async fn main() -> Result<()> {
    let config = Config::from_toml("[models.narcissus]\nprovider = \"mirror\"\nqueue = { limit = 2 }")?;
    let llm = Llm::over(Gateway::with(&config, &[MIRROR], Arc::new(()))?);
    println!("{}", llm.chat("Was it a car or a cat I saw?").await?);
    Ok(())
}
