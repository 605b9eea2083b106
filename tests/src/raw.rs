//! A server that sends exactly the bytes it is told to, however wrong they are: the kit's own, under its old short name.
pub use llm_core::testkit::{Mock as Raw, Step, answer, chunk, events_in_chunks, events_until_close};
