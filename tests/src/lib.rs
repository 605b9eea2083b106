//! What the tests from outside share: a stand-in for vLLM, a load of clients, and the bench.

pub mod bench;
pub mod load;
pub mod upstream;
