//! The provider `vllm` is put to the kit's checks in front of a real vLLM.
use std::sync::Arc;

use llm_core::provider::PROVIDERS;
use llm_core::testkit::Subject;
use llm_core::{ChatRequest, Kind, Operation, Provider};
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
