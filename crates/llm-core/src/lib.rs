//! Every LLM provider behind one trait, with the queues, retries, timeouts and fallbacks that programs need in front of one.
//!
//! A [`Call`] goes down, a [`Reply`] comes up. Everything that answers is a [`Provider`]; everything that decides is a
//! `Provider` around a `Provider`; everything that knows a JSON shape is a [`dialect::Dialect`].
pub mod call;
pub mod dialect;
pub mod error;
pub mod policy;
pub mod provider;
pub mod secret;

pub use call::*;
pub use error::{Error, Kind, Result};
