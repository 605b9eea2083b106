//! openai-python, openai-node and async-openai against the server: each tells the same stories; ollama-python its own.
use std::time::Duration;

use llm_tests::clients::{ClientHouse, OLLAMA_STORIES, Program, STORIES, async_openai, complaints, complaints_of};

/// What the program tells, while the test's own servers go on.
async fn tells(program: Program, base_url: String) -> Vec<String> {
    let told = tokio::task::spawn_blocking(move || program.tells(&base_url));
    told.await.unwrap().unwrap_or_else(|why| panic!("{why}"))
}

/// What the clients cannot see: that the upstream was left and not only the server, and asked for what the client wanted.
async fn assert_behind(house: &ClientHouse) {
    let left = house.long.seen().until(Duration::from_secs(5), |tally| (tally.left, tally.answered) == (2, 2)).await;
    assert!(left.is_ok(), "{left:?}");
    let asked = house.structured.as_ref().unwrap().requests();
    let is_kept = asked.iter().any(|request| request.contains(r#""json_schema""#) && request.contains(r#""Thing""#));
    assert!(is_kept, "{asked:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn openai_python_sees_what_it_should() {
    let house = ClientHouse::fake().await;
    assert_eq!(complaints(&tells(Program::Python, house.base_url()).await), [""; 0]);
    assert_behind(&house).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn openai_node_sees_what_it_should() {
    let house = ClientHouse::fake().await;
    assert_eq!(complaints(&tells(Program::Node, house.base_url()).await), [""; 0]);
    assert_behind(&house).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn async_openai_sees_what_it_should() {
    let house = ClientHouse::fake().await;
    assert_eq!(complaints(&async_openai(&house.base_url()).await), [""; 0]);
    assert_behind(&house).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ollama_python_sees_what_it_should() {
    let house = ClientHouse::fake().await;
    assert_eq!(complaints_of(OLLAMA_STORIES, &tells(Program::Ollama, house.base_url()).await), [""; 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_nobody_serves_every_story_fails() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let nobody = format!("http://{closed}/v1");
    let (python, node, ollama) = tokio::join!(
        tells(Program::Python, nobody.clone()),
        tells(Program::Node, nobody.clone()),
        tells(Program::Ollama, nobody)
    );
    for (told, stories) in [(python, STORIES), (node, STORIES), (ollama, OLLAMA_STORIES)] {
        let failed = |story: &&&str| told.iter().any(|line| line.starts_with(&format!("FAILED {story}: ")));
        assert_eq!(stories.iter().filter(failed).count(), stories.len(), "{told:?}");
    }
}
