//! Rerank and score before a real vLLM, through the SDK and through the server.
use llm_core::{Config, Kind, Llm, RerankRequest, ScoreRequest};
use llm_tests::house::House;
use llm_tests::http;
use llm_tests::vllm::Vllm;
use serde_json::{Value, json};

const DOCUMENTS: [&str; 3] = ["bananas are yellow", "the capital of france is paris", "a quick brown fox"];

#[tokio::test]
async fn documents_are_ordered_and_scored_alike() {
    let vllm = Vllm::own("rank");
    let text = format!("[models.tiny-cross-encoder]\nprovider = 'vllm'\nbase_url = '{}'", vllm.base_url());
    let llm = Llm::new(&Config::from_toml(&text).unwrap()).unwrap();
    let ranking = llm.rerank("capital of france", DOCUMENTS).await.unwrap();
    let score = |i: usize| ranking.results.iter().find(|r| r.index == i).unwrap().relevance_score;
    assert!(ranking.results.windows(2).all(|w| w[0].relevance_score >= w[1].relevance_score), "{ranking:?}");
    assert_eq!(ranking.results[0].extra["document"]["text"], DOCUMENTS[ranking.results[0].index]);
    assert!(ranking.usage.unwrap().prompt_tokens > 10);
    let scores = llm.score(ScoreRequest::new(["capital of france"], DOCUMENTS)).await.unwrap().scores;
    assert!((0..3).all(|i| (scores[i] - score(i)).abs() < 1e-4), "{scores:?} {ranking:?}");
    let best = llm.rank(RerankRequest::new("capital of france", DOCUMENTS).top_n(1)).await.unwrap();
    assert_eq!((best.results.len(), best.results[0].index), (1, ranking.results[0].index));
    the_server_answers_the_same(&text, scores[0]).await;
    let error = llm.chat("hello").await.unwrap_err();
    assert!(matches!(error.kind(), Kind::NotFound | Kind::Unsupported), "{error:?}");
}

async fn the_server_answers_the_same(text: &str, score: f32) {
    let house = House::of(text);
    let ask = async |path: &str, body: Value| {
        let reply = http::client().post(house.url() + path).json(&body).send().await.unwrap();
        serde_json::from_slice::<Value>(&reply.bytes().await.unwrap()).unwrap()
    };
    let body = json!({"model": "tiny-cross-encoder", "query": "capital of france", "documents": [DOCUMENTS[0]]});
    let ranked = ask("/v1/rerank", body).await["results"][0]["relevance_score"].as_f64().unwrap();
    let body = json!({"model": "tiny-cross-encoder", "text_1": "capital of france", "text_2": [DOCUMENTS[0]]});
    let scored = ask("/score", body).await["data"][0]["score"].as_f64().unwrap();
    assert!((ranked as f32 - score).abs() < 1e-4 && (scored as f32 - score).abs() < 1e-4, "{ranked} {scored} {score}");
}
