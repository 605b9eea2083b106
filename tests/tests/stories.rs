//! The stories of the SDK before the engine: in this process, and by way of our server.
use std::sync::{Arc, Mutex};

use llm_core::provider::{Kind, settings};
use llm_core::{Config, Gateway, Llm, Provider, Result};
use llm_engine::EngineProvider;
use llm_tests::house::House;
use llm_tests::stories::{Door, ready, tell};

/// Schemas and tools would need a grammar to hold the model to; several answers are several questions here.
const LACKS: &[&str] = &[
    "a_rust_type_is_answered",
    "a_tool_is_called_whole_and_in_fragments",
    "of_several_answers_the_first_is_told",
    "tools_are_called_until_there_is_an_answer",
];

/// The engines that were built, so that a test can see what they do.
static ENGINES: Mutex<Vec<Arc<EngineProvider>>> = Mutex::new(Vec::new());
/// One door at a time: they count what runs on any engine.
static TURN: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

const WATCHED: Kind = Kind { build, ..llm_engine::KIND };

fn build(table: &toml::Table) -> Result<Arc<dyn Provider>> {
    let engine = Arc::new(EngineProvider::new(settings(table)?)?);
    ENGINES.lock().unwrap().push(engine.clone());
    Ok(engine)
}

fn running() -> usize {
    ENGINES.lock().unwrap().iter().map(|engine| engine.running()).sum()
}

/// The weights that the shared vLLMs serve, with as much room.
fn models() -> String {
    let chat = concat!(env!("CARGO_MANIFEST_DIR"), "/models/tiny-chat-f16.gguf");
    format!(
        "default_model = 'chat'\n[models.chat]\nprovider = 'engine'\npath = '{chat}'\ncontext = 4096\nthreads = 2\n\
         [models.embed]\nprovider = 'engine'\ndefault = 'embedding'\nthreads = 2\n"
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_engine_tells_every_story() {
    let _turn = TURN.lock().await;
    let gateway = Gateway::with(&Config::from_toml(&models()).unwrap(), &[WATCHED], Arc::new(())).unwrap();
    ready(&gateway).await.unwrap();
    tell(Door::new("the engine", Llm::over(gateway), LACKS, running)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn our_server_before_it_tells_every_story() {
    let _turn = TURN.lock().await;
    let house = House::with(&models(), &[WATCHED]);
    ready(&house.gateway).await.unwrap();
    tell(Door::of_server("our server before the engine", house, LACKS, running)).await;
}
