//! A vLLM that a test owns stands where the test wants it, and is gone as soon as the test kills it.

use llm_tests::http;
use llm_tests::vllm::Vllm;
use std::net::{TcpListener, TcpStream};

#[test]
fn one_that_is_killed_is_gone_at_once() {
    let port = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("there is a free port").port();
    let vllm = Vllm::own(&format!("chat:{port}"));
    let address = http::address(vllm.base_url()).to_owned();
    assert_eq!(address, format!("127.0.0.1:{port}"));
    assert_eq!(http::get(&format!("{}/models", vllm.base_url())).0, 200);

    vllm.kill();
    assert!(TcpStream::connect(&address).is_err(), "{address} still answers");
}
