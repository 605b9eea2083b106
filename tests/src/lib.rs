//! What the tests from outside share: a stand-in for vLLM and real ones, a load of clients, and the bench.

pub mod bench;
pub mod house;
pub mod http;
pub mod load;
pub mod raw;
pub mod upstream;
pub mod vllm;
