//! For tests of providers and of programs: servers that misbehave on purpose.
//!
//! Behind the feature `testkit`; switch it on among the `dev-dependencies`. [`scenarios`] has every way in which servers that call
//! themselves compatible were seen to differ, each with what a caller should make of it. [`Mock`] sends whatever bytes it is told to.
mod mock;
pub mod scenarios;
mod shapes;
mod wire;

pub use mock::{Mock, Step};
pub use scenarios::{SCENARIOS, Scenario};
pub use wire::{answer, chunk, events_in_chunks, events_until_close};
