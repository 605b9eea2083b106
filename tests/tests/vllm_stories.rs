//! The stories of the SDK before real vLLMs: asked by the SDK itself, and by way of our server.
use llm_tests::stories::{Door, tell};

/// What the vLLMs that tests share cannot, although vLLM can.
const LACKS: &[&str] = &[];

/// One door at a time: they count what runs on the same vLLM.
static TURN: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_real_vllm_tells_every_story() {
    let _turn = TURN.lock().await;
    tell(Door::vllm(LACKS)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn our_server_before_it_tells_every_story() {
    let _turn = TURN.lock().await;
    tell(Door::server_of_vllm(LACKS).await.unwrap()).await;
}
