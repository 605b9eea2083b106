//! The engine and a real vLLM on the same weights give the same answers: SmolLM2, greedy, the first 16 tokens of each.
use std::time::{Duration, Instant};

use llm_tests::house::House;
use llm_tests::http;
use llm_tests::vllm::Vllm;
use serde_json::{Value, json};

const TOKENS: usize = 16;
/// Where the two likeliest tokens are this near to each other, rounding decides, and either is right.
const CLOSE: f64 = 0.1;
/// What an answer's last token may be called in a list of its tokens.
const ENDS: [&str; 3] = ["", "<|im_end|>", "<|endoftext|>"];

const QUESTIONS: [&str; 20] = [
    "What is the capital of France?",
    "What is the capital of Italy?",
    "How many days are in a week?",
    "What is 7 + 5?",
    "Name three colours.",
    "Write a Python function that adds two numbers.",
    "What do bees make?",
    "Who wrote Romeo and Juliet?",
    "Translate 'good morning' into French.",
    "What is water made of?",
    "Say hello.",
    "Name the largest planet.",
    "What is the opposite of hot?",
    "Give me a tip for learning to swim.",
    "What is a noun?",
    "Why is the sky blue?",
    "How do I boil an egg?",
    "What language is spoken in Brazil?",
    "Write a haiku about rain.",
    "What does HTTP stand for?",
];

/// The first tokens of a greedy answer, each with how far the second likeliest lay behind.
async fn answer(house: &House, model: &str, question: &str) -> Vec<(String, f64)> {
    let body = json!({"model": model, "messages": [{"role": "user", "content": question}], "temperature": 0, "max_tokens": TOKENS,
        "logprobs": true, "top_logprobs": 2});
    let request = http::client().post(format!("{}/v1/chat/completions", house.url())).body(body.to_string());
    let text = request.send().await.unwrap().text().await.unwrap();
    let reply: Value = serde_json::from_str(&text).unwrap();
    let tokens = reply["choices"][0]["logprobs"]["content"].as_array().unwrap_or_else(|| panic!("no logprobs: {text}"));
    let margin = |t: &Value| {
        t["top_logprobs"][0]["logprob"].as_f64().unwrap() - t["top_logprobs"][1]["logprob"].as_f64().unwrap()
    };
    tokens.iter().map(|t| (t["token"].as_str().unwrap().to_owned(), margin(t))).collect()
}

/// The same tokens to the same end, or parted where the choice was a toss-up. One may list the token that ends the answer,
/// which the other leaves out.
fn agree(ours: &[(String, f64)], theirs: &[(String, f64)]) -> bool {
    let shorter = ours.len().min(theirs.len());
    if let Some(at) = ours.iter().zip(theirs).position(|(a, b)| a.0 != b.0) {
        return ours[at].1 < CLOSE || theirs[at].1 < CLOSE;
    }
    match if ours.len() > shorter { &ours[shorter..] } else { &theirs[shorter..] } {
        [] => shorter > 0,
        [(end, _)] if ENDS.contains(&end.as_str()) => true,
        [(_, margin), ..] => *margin < CLOSE,
    }
}

#[test]
fn who_says_something_else_or_stops_too_early_does_not_agree() {
    let said = |tokens: &[&str]| tokens.iter().map(|token| ((*token).to_owned(), 5.0)).collect::<Vec<_>>();
    let close = |tokens: &[&str]| said(tokens).into_iter().map(|(token, _)| (token, 0.01)).collect::<Vec<_>>();
    let whole = said(&["It", " is", " Paris"]);
    assert!(agree(&whole, &whole) && agree(&whole, &said(&["It", " is", " Paris", "<|im_end|>"])));
    assert!(!agree(&whole, &said(&["It", " is", " Rome"])) && agree(&whole, &close(&["It", " is", " Rome"])));
    for short in [vec![], vec!["It"], vec!["It", " is"]] {
        assert!(!agree(&said(&short), &whole) && !agree(&whole, &said(&short)), "{short:?}");
        assert!(agree(&said(&short), &close(&["It", " is", " Paris"])), "to go on was a toss-up: {short:?}");
    }
    assert!(!agree(&[], &[]), "nobody has said anything");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_engine_answers_as_vllm_does() {
    let vllm = Vllm::own("smol");
    let theirs = House::before(vllm.base_url());
    let ours = House::with("[models.smollm2]\nprovider = 'engine'\ndefault = 'chat'", &[llm_engine::KIND]);
    let since = Instant::now();
    while ours.gateway.models()[0].status != "ready" {
        let model = &ours.gateway.models()[0];
        assert!(model.status != "error" && since.elapsed() < Duration::from_secs(120), "{:?}", model.reason);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let mut agreed = 0;
    for question in QUESTIONS {
        let (one, other) = (answer(&ours, "smollm2", question).await, answer(&theirs, vllm.model(), question).await);
        let same = agree(&one, &other);
        agreed += usize::from(same);
        if !same {
            println!("{question}\n  engine {:?}\n  vLLM   {:?}", texts(&one), texts(&other));
        }
    }
    println!("{agreed} of {} answers agree", QUESTIONS.len());
    assert!(agreed >= 18, "{agreed} of 20 agree");
}

fn texts(answer: &[(String, f64)]) -> String {
    answer.iter().map(|(token, _)| token.as_str()).collect()
}
