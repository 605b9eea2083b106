//! llama.cpp in this process, as a provider of `llm-core`.

pub mod defaults;
pub mod gguf;
