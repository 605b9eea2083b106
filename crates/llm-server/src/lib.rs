//! An OpenAI-compatible gateway over `llm-core`: thin, because every decision is a policy below.
//!
//! [`start`] runs a [`llm_core::Gateway`] behind sockets, on one runtime per core; [`Telemetry`] watches its calls.
mod api;
mod ask;
mod asked;
pub mod compose;
mod config;
mod cors;
mod files;
pub mod key;
pub mod keys;
mod line;
pub mod log;
mod models;
mod ollama;
mod proxies;
mod refusal;
mod reload;
mod run;
mod signals;
mod sockets;
mod telemetry;
mod tls;

pub use config::{Config, Secrets, VARIABLES};
pub use reload::Reload;
pub use run::{Server, start};
pub use signals::until_signal;
pub use telemetry::Telemetry;
