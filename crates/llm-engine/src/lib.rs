//! llama.cpp inside this process, as a provider of `llm-core`: one model, one thread, many answers at once.

mod aboard;
mod chat;
mod config;
pub mod defaults;
mod embed;
mod engine;
mod generate;
pub mod gguf;
mod life;
mod llama;
mod logprobs;
mod provider;
mod request;
mod sampler;
mod text;

pub use config::{Config, Pooling};
pub use llama::instructions;
pub use provider::{EngineProvider, KIND};
