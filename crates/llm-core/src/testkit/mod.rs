//! For tests of providers and of programs: servers that misbehave on purpose, and what every provider must do.
//!
//! Behind the feature `testkit`; switch it on among the `dev-dependencies`.
//!
//! - [`Subject`] puts any provider to the checks that ours pass: `Subject::new(&mine).conforms().await`.
//! - [`scenarios`] has every way in which servers that call themselves compatible were seen to differ, each with what a caller
//!   should make of it; [`Scenario::check`] puts any `Llm` to one.
//! - [`Mock`] sends whatever bytes it is told to, and [`Served`] makes a server of any provider.
mod checks;
mod conformance;
mod mock;
pub mod scenarios;
mod served;
mod shapes;
#[cfg(test)]
mod tests;
mod wanted;
mod wire;

pub use conformance::{Complaints, Subject};
pub use mock::{Mock, Step};
pub use scenarios::{SCENARIOS, Scenario};
pub use served::Served;
pub use wire::{answer, chunk, events_in_chunks, events_until_close};
