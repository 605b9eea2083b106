//! openai-python, openai-node and async-openai against the server before real vLLMs: the stories of clients.rs.

use llm_tests::clients::{ClientHouse, Program, async_openai, complaints};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_client_sees_of_a_vllm_what_it_should() {
    for program in [Program::Python, Program::Node] {
        let house = ClientHouse::real().await;
        let url = house.base_url();
        let told = tokio::task::spawn_blocking(move || program.tells(&url)).await.unwrap();
        assert_eq!(complaints(&told.unwrap_or_else(|why| panic!("{why}"))), [""; 0], "{program:?}");
    }
    let house = ClientHouse::real().await;
    assert_eq!(complaints(&async_openai(&house.base_url()).await), [""; 0]);
}
