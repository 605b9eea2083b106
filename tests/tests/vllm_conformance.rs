//! The provider `vllm` is put to the kit's checks in front of a real vLLM.
use std::sync::Arc;
use std::time::Duration;

use llm_core::provider::PROVIDERS;
use llm_core::testkit::Subject;
use llm_core::{ChatRequest, EmbedRequest, Kind, Operation, Provider};
use llm_tests::vllm::Vllm;

fn provider(vllm: &Vllm) -> Arc<dyn Provider> {
    let kind = PROVIDERS.iter().find(|kind| kind.name == "vllm").expect("it is one of ours");
    (kind.build)(&format!("base_url = '{}'", vllm.base_url()).parse().unwrap()).unwrap()
}

#[tokio::test]
async fn before_an_embedding_model_it_conforms() {
    let vllm = Vllm::embed();
    Subject::new(&*provider(vllm))
        .model(vllm.model())
        .only([Operation::Embed, Operation::Tokenize, Operation::Models])
        .refuses(ChatRequest::new("?").model(vllm.model()), Kind::Unsupported)
        .conforms()
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn before_a_chat_model_it_conforms() {
    let vllm = Vllm::chat();
    let long = ChatRequest::new("Count to 80.").temperature(0.0).max_tokens(4000).extra("ignore_eos", true);
    let asked = |text: String| ChatRequest::new(text).model(vllm.model());
    Subject::new(&*provider(vllm))
        .model(vllm.model())
        .only([Operation::Chat, Operation::Tokenize, Operation::Models])
        .says("The capital of France is Paris.")
        .asked_for_long(long)
        .running(|| vllm.running())
        // It learns of a closed connection when it next writes or looks, and counts once a step.
        .stops_within(Duration::from_secs(1))
        .refuses(asked("The capital of France is Paris. ".repeat(2_000)), Kind::ContextLength)
        .refuses(asked("something that nobody else should ever read".into()).temperature(5.0), Kind::Invalid)
        .refuses(ChatRequest::new("?").model("gpt-9"), Kind::NotFound)
        .refuses(EmbedRequest::new(["a text"]).model(vllm.model()), Kind::Unsupported)
        .conforms()
        .await
        .unwrap();
}
