//! The only part of the project that touches C: llama.cpp behind types that cannot be misused.

mod abort;
mod batch;
mod context;
mod cpu;
mod cuts;
mod log;
mod model;
mod quantize;

pub(crate) use abort::Abort;
pub(crate) use batch::{Batch, Row};
pub(crate) use context::{Context, Decoded, Shape};
pub use cpu::instructions;
pub(crate) use model::{Model, ModelKind, Special, Token};
pub(crate) use quantize::to_f16;
