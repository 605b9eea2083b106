//! Ten thousand requests leave no trace in memory. A file of its own, for it is the whole process that is weighed.
use std::sync::Arc;

use llm_tests::factor;
use llm_tests::house::House;
use llm_tests::load::{Clients, Plan, Question, post, resident};
use llm_tests::upstream::Upstream;

/// What allocators and page tables may need to settle.
const GROWTH: u64 = 8 << 20;

#[tokio::test(flavor = "multi_thread")]
async fn memory_is_flat_over_ten_thousand_requests() {
    let upstream = Upstream::start().await.unwrap();
    let house = House::before(&upstream.url());
    let body = |rest| format!(r#"{{"model":"tiny","messages":[{{"role":"user","content":"hi"}}]{rest}}}"#);
    let ask = |rest| Question::learn(upstream.address(), post("/v1/chat/completions", None, body(rest).as_bytes()));
    let (whole, stream) = (ask("").await.unwrap(), ask(r#","stream":true"#).await.unwrap());
    let (whole, stream) = (Arc::new(whole), Arc::new(stream));
    let mut clients = Clients::connect(house.address(), 16).await.unwrap();
    let mut settled = 0;
    for each in [125, 313 * factor()] {
        settled = resident(std::process::id()).unwrap();
        clients.run(&whole, Plan::counting(each)).await.unwrap();
        clients.run(&stream, Plan::counting(each)).await.unwrap();
    }
    let grown = resident(std::process::id()).unwrap().saturating_sub(settled);
    assert!(grown < GROWTH, "{grown} bytes more");
}
