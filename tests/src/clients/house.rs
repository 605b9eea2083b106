//! The server that the stories are about: a few models that answer, and one for each way to fail.

use llm_core::testkit::scenarios::{CUT, ERROR_IN_STREAM};
use llm_core::testkit::{Mock, Step};

use crate::house::House;
use crate::upstream::Upstream;
use crate::vllm::Vllm;

/// The server's key.
pub const KEY: &str = "sk-clients";

/// A server with the models that the stories ask, and what stands behind it.
pub struct ClientHouse {
    /// The server.
    pub house: House,
    /// Behind `long` and `line`, whose streams go on until they are left.
    pub long: Upstream,
    /// Behind `structured`, where it is not a vLLM.
    pub structured: Option<Mock>,
    _broken: [Mock; 2],
}

impl ClientHouse {
    /// With models that are fake or recorded.
    pub async fn fake() -> ClientHouse {
        let structured = Mock::start(vec![vec![Step::ReadQuestion, Step::Says(r#"{"c":"green"}"#)]]).await;
        let tools = concat!(env!("CARGO_MANIFEST_DIR"), "/recordings/vllm/chat_tools_auto_stream.txt");
        let models = format!(
            "[models.chat]\nprovider = 'fake'\nsays = 'The capital of France is Paris.'\n\
             [models.embed]\nprovider = 'fake'\n\
             [models.tools]\nprovider = 'replay'\nrecordings = '{tools}'\n\
             [models.structured]\nprovider = 'vllm'\nbase_url = '{}'\n",
            structured.url()
        );
        ClientHouse::with(&models, Some(structured)).await
    }

    /// With the real vLLMs that tests share; what has to fail is as above.
    pub async fn real() -> ClientHouse {
        let model = |name: &str, vllm: &Vllm| {
            let (at, model) = (vllm.base_url(), vllm.model());
            format!("[models.{name}]\nprovider = 'vllm'\nmodel = '{model}'\nbase_url = '{at}'\n")
        };
        let chats: String = ["chat", "tools", "structured"].iter().map(|name| model(name, Vllm::chat())).collect();
        ClientHouse::with(&(chats + &model("embed", Vllm::embed())), None).await
    }

    async fn with(models: &str, structured: Option<Mock>) -> ClientHouse {
        let long = Upstream::start().await.expect("a free port");
        let broken = [ERROR_IN_STREAM.serve().await, CUT.serve().await];
        let vllm = |name: &str, url: &str| format!("[models.{name}]\nprovider = 'vllm'\nbase_url = '{url}'\n");
        // What stands behind counts what it is asked: nothing but the stories' questions.
        let house = House::of(&format!(
            "[server]\napi_key = '{KEY}'\n[health]\ncanary = false\n{models}{}queue = {{ limit = 1, waiting = 1 }}\n{}{}\
             [models.loading]\nprovider = 'fake'\nloading = true\n\
             {}queue = {{ limit = 1, waiting = 0 }}\n",
            vllm("long", &long.url()),
            vllm("failing", &broken[0].url()),
            vllm("cut", &broken[1].url()),
            vllm("line", &long.url()),
        ));
        ClientHouse { house, long, structured, _broken: broken }
    }

    /// Where its API begins, as clients want it told.
    pub fn base_url(&self) -> String {
        self.house.url() + "/v1"
    }
}
