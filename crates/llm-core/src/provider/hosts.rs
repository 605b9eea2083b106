//! Hosts that speak OpenAI's dialect: a row of data each. A host's quirk is a field of its row, never an `if` in the path.
use std::sync::Arc;

use toml::Table;

use super::http::{Host, Http};
use super::{Kind, settings};
use crate::call::Provider;
use crate::error::Result;

/// A vLLM server.
pub const VLLM: Kind = Kind { name: "vllm", about: "a vLLM server (VLLM_BASE_URL)", build: |t| build(&HOST_VLLM, t) };
/// OpenAI itself.
pub const OPENAI: Kind =
    Kind { name: "openai", about: "OpenAI's API (OPENAI_API_KEY)", build: |t| build(&HOST_OPENAI, t) };
/// An Ollama server.
pub const OLLAMA: Kind =
    Kind { name: "ollama", about: "an Ollama server (OLLAMA_HOST)", build: |t| build(&HOST_OLLAMA, t) };
/// Any other host.
pub const COMPATIBLE: Kind = Kind {
    name: "compatible",
    about: "any OpenAI-compatible host: llama-server, LM Studio, SGLang, TGI, OpenRouter, ..",
    build: |t| build(&HOST_COMPATIBLE, t),
};

static HOST_VLLM: Host = Host { base_url: Some("http://127.0.0.1:8000"), tokenizes: true, tells_usage: true };
static HOST_OPENAI: Host = Host { base_url: Some("https://api.openai.com/v1"), tokenizes: false, tells_usage: true };
static HOST_OLLAMA: Host = Host { base_url: Some("http://127.0.0.1:11434"), tokenizes: false, tells_usage: true };
static HOST_COMPATIBLE: Host = Host { base_url: None, tokenizes: false, tells_usage: true };

fn build(host: &'static Host, table: &Table) -> Result<Arc<dyn Provider>> {
    Ok(Arc::new(Http::new(host, settings(table)?)?))
}
