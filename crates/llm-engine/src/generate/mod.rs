//! Generation: one thread owns the context and decodes the rows of every running answer, and of prompts, in one batch.

mod job;
mod pace;
mod plan;
mod pool;
mod slot;
mod worker;

pub(crate) use job::{Answer, Ask, Job, Leave};
pub(crate) use worker::Worker;
