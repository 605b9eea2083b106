//! What the tests from outside share: a stand-in for vLLM and real ones, a load of clients, the stories that every
//! door tells, and the bench.

/// The Rust in README.md is compiled and run.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;

/// The Rust in the guide to errors is compiled.
#[cfg(doctest)]
#[doc = include_str!("../../docs/errors.md")]
struct Errors;

pub mod bench;
pub mod clients;
pub mod house;
pub mod http;
pub mod load;
pub mod raw;
pub mod stories;
pub mod upstream;
pub mod vllm;

/// How many times more often than usual what repeats is repeated: `LLM_TEST_FACTOR`, 1 in the short run.
pub fn factor() -> usize {
    std::env::var("LLM_TEST_FACTOR").ok().and_then(|factor| factor.parse().ok()).unwrap_or(1)
}
