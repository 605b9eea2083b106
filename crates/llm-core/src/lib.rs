//! Every LLM provider behind one trait, with the queues, retries, timeouts and fallbacks that programs need in front of one.
//!
//! Programs hold an [`Llm`]: its methods are the verbs. Below, a [`Call`] goes down and a [`Reply`] comes up; everything
//! that answers is a [`Provider`], everything that decides is a `Provider` around a `Provider` ([`policy`], [`route`]),
//! and everything that knows a JSON shape is a [`dialect::Dialect`].
pub mod call;
pub mod dialect;
pub mod error;
pub mod gateway;
pub mod interop;
pub mod llm;
pub mod policy;
pub mod provider;
pub mod route;
pub mod secret;
#[cfg(feature = "testkit")]
pub mod testkit;

pub use call::*;
pub use error::{Error, Kind, Result};
pub use gateway::{Config, DeploymentConfig, Gateway, ModelStatus};
pub use llm::{Batches, ChatStream, Llm, Tool, ToolRun};

/// The models that the process's environment and `.env` file name. The built-in engine is a crate of its own: pass its kind to
/// [`Llm::from_env`] if it shall be the default.
///
/// ```
/// match llm_core::from_env() {
///     Ok(llm) => println!("{} models", llm.models().len()),
///     Err(error) => println!("{error}"), // names the variable, and what to do
/// }
/// ```
///
/// # Errors
/// `Config`, naming the variable and the remedy.
pub fn from_env() -> Result<Llm> {
    let environment = gateway::dotenv::Environment::of_process()?;
    Llm::from_env(&|name| environment.get(name), &[])
}
