//! The vLLMs that tests share are there, serve what they are said to serve, and are the same for every test.

use llm_tests::http;
use llm_tests::vllm::Vllm;

#[test]
fn the_shared_two_list_their_models() {
    for vllm in [Vllm::chat(), Vllm::embed()] {
        let (status, body) = http::get(&format!("{}/models", vllm.base_url()));
        assert_eq!(status, 200, "{body}");
        assert!(body.contains(&format!("\"id\":\"{}\"", vllm.model())), "{body}");
    }
}

#[test]
fn every_test_gets_the_same_one() {
    assert_eq!(Vllm::chat().base_url(), Vllm::chat().base_url());
    assert_ne!(Vllm::chat().base_url(), Vllm::embed().base_url());
}
