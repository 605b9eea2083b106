//! What the engine answers beyond the stories that every door tells: stops, neighbours, caches, penalties, odd texts.
mod common;

use common::*;
use futures_util::StreamExt;
use llm_core::{
    ChatRequest, CompleteRequest, DetokenizeRequest, Event, Frame, Kind, Message, Request, Sampling, TokenizeRequest,
};
use serde_json::json;
use std::time::{Duration, Instant};

#[tokio::test]
async fn a_token_that_is_none_is_the_callers_mistake() {
    let engine = loaded(config()).await;
    let request = DetokenizeRequest { model: String::new(), tokens: vec![u32::MAX], ..Default::default() };
    assert_eq!(kind_of(frame(&engine, Request::Detokenize(request)).await), Kind::Invalid);
}

#[tokio::test]
async fn an_answer_ends_at_its_limit_or_before_a_stop_string_that_tokens_cut_apart() {
    let engine = loaded(config()).await;
    let cut = answer(&engine, greedy("What is the capital of France?").max_tokens(2)).await.unwrap();
    assert_eq!((cut.usage.unwrap().completion_tokens, &cut.finish_reason), (2, &LENGTH));
    let whole = text(&engine, greedy("What is the capital of France?")).await;
    for from in 1..whole.len() {
        for until in from + 1..=whole.len().min(from + 9) {
            let stop = &whole[from..until];
            let reply = answer(&engine, greedy("What is the capital of France?").stop(stop)).await.unwrap();
            let expected = &whole[..whole.find(stop).unwrap()];
            assert_eq!((reply.text.as_str(), &reply.finish_reason), (expected, &STOP), "stop {stop:?}");
        }
    }
}

#[tokio::test]
async fn greedy_answers_do_not_depend_on_the_neighbours_in_the_batch() {
    let engine = loaded(config()).await;
    let alone = text(&engine, long("Count to 20.", 60)).await;
    let others = (0..7).map(|n| text(&engine, long(&format!("Tell me a story, number {n}."), 80)));
    let others = futures_util::future::join_all(others);
    let (beside, _) = tokio::join!(text(&engine, long("Count to 20.", 60)), others);
    assert_eq!(alone, beside);
}

#[tokio::test]
async fn a_prompt_begun_before_is_not_computed_again() {
    let engine = loaded(config()).await;
    let question = "Tell me about every one of the following towns in turn: Paris, London, Rome, Berlin, Madrid.";
    let first = answer(&engine, greedy(question)).await.unwrap();
    let again = answer(&engine, greedy(question)).await.unwrap();
    assert_eq!(first.text, again.text);
    assert_eq!(first.usage.unwrap().cached_tokens, Some(0));
    let usage = again.usage.unwrap();
    assert_eq!(usage.cached_tokens, Some(usage.prompt_tokens - 1));
}

#[tokio::test]
async fn a_text_is_gone_on_with() {
    let engine = loaded(config()).await;
    let mut request = CompleteRequest::new("The capital of France is");
    (request.sampling.temperature, request.sampling.max_tokens) = (Some(0.0), Some(3));
    assert!(text(&engine, request.clone()).await.contains("Paris"));
    request.extra.insert("echo".into(), true.into());
    let error = ask(&engine, request).await.unwrap_err();
    assert_eq!((error.kind(), error.get_param()), (Kind::Unsupported, Some("echo")));
}

#[tokio::test]
async fn log_probabilities_come_for_every_token() {
    let engine = loaded(config()).await;
    let request = greedy("What is the capital of France?").extra("logprobs", true).extra("top_logprobs", 2);
    let frames: Vec<_> = ask(&engine, request).await.unwrap().events().collect().await;
    let mut content = Vec::new();
    let mut made = 0;
    for frame in frames {
        match frame.unwrap() {
            Frame::Event(Event::Logprobs(logprobs)) => content.extend(logprobs["content"].as_array().unwrap().clone()),
            Frame::Event(Event::Usage(usage)) => made = usage.completion_tokens as usize,
            _ => {}
        }
    }
    // The end of the turn is a token too, and has no text to go with.
    assert_eq!(content.len() + 1, made);
    for token in &content {
        assert_eq!(token["top_logprobs"].as_array().unwrap().len(), 2);
        assert_eq!(token["logprob"], token["top_logprobs"][0]["logprob"], "greedy takes the likeliest");
        assert!(token["logprob"].as_f64().unwrap() <= 0.0);
    }
}

#[tokio::test]
async fn a_biased_token_is_always_or_never_said() {
    let engine = loaded(config()).await;
    let plain = greedy("What is the capital of France?").max_tokens(1);
    let first = text(&engine, plain.clone()).await;
    let request = TokenizeRequest {
        model: String::new(),
        prompt: first.as_str().into(),
        add_special_tokens: false,
        extra: Default::default(),
    };
    let Frame::Tokens(tokens) = frame(&engine, Request::Tokenize(request)).await.unwrap() else { panic!("no tokens") };
    let mut biased = plain.clone();
    biased.sampling.logit_bias = vec![(tokens.tokens[0], -100.0)];
    assert_ne!(first, text(&engine, biased).await);
    let mut unknown = plain;
    unknown.sampling.logit_bias = vec![(9_999_999, 1.0)];
    let error = answer(&engine, unknown).await.unwrap_err();
    assert_eq!((error.kind(), error.get_param()), (Kind::Invalid, Some("logit_bias")));
}

#[tokio::test]
async fn each_penalty_changes_what_is_said_again() {
    let engine = loaded(config()).await;
    let plain = long("Count to 20.", 100);
    let free = text(&engine, plain.clone()).await;
    let penalties: [fn(&mut Sampling); 2] =
        [|sampling| sampling.frequency_penalty = Some(2.0), |sampling| sampling.repetition_penalty = Some(10.0)];
    for penalize in penalties {
        let mut request = plain.clone();
        penalize(&mut request.sampling);
        let penalized = text(&engine, request.clone()).await;
        assert_ne!(free, penalized, "{:?}", request.sampling);
    }
}

#[tokio::test]
async fn a_prompt_that_does_not_fit_is_refused_with_numbers() {
    let engine = loaded(config()).await;
    let error = ask(&engine, greedy(&"word ".repeat(5000))).await.unwrap_err();
    assert_eq!(error.kind(), Kind::ContextLength);
    assert!(error.to_string().contains("2048"), "{error}");
}

#[tokio::test]
async fn an_answer_ends_where_the_context_does() {
    let engine = loaded(llm_engine::Config { context: Some(128), ..config() }).await;
    let reply = answer(&engine, long("Count.", 100_000)).await.unwrap();
    let usage = reply.usage.unwrap();
    assert_eq!((usage.prompt_tokens + usage.completion_tokens, &reply.finish_reason), (128, &LENGTH));
}

#[tokio::test]
async fn messages_that_the_template_refuses_are_the_callers_mistake() {
    let engine = loaded(config()).await;
    let nul = ChatRequest::new("a\0b").temperature(0.0);
    // JSON writes a NUL as an escape, so it reaches the template, and the tokenizer takes any text.
    assert!(answer(&engine, nul).await.is_ok());
    let deep = (0..200).fold(json!(1), |inner, _| json!([inner]));
    let mut message = Message::user("hi");
    message.extra.insert("tool_calls".into(), deep);
    let error = ask(&engine, ChatRequest::from(vec![message])).await.unwrap_err();
    assert_eq!((error.kind(), error.get_param()), (Kind::Invalid, Some("messages")));
}

#[tokio::test]
async fn long_runs_of_one_character_are_counted_and_not_fatal() {
    let engine = loaded(config()).await;
    for piece in ["a", " ", "1", "\n", "é", "界", "🙂", "'s", "<|im_end|>", "\u{300}", "\0"] {
        let began = Instant::now();
        let request = TokenizeRequest {
            model: String::new(),
            prompt: piece.repeat(200_000).into(),
            add_special_tokens: false,
            extra: Default::default(),
        };
        let Frame::Tokens(tokens) = frame(&engine, Request::Tokenize(request)).await.unwrap() else {
            panic!("no tokens")
        };
        assert!(tokens.count >= 200_000, "{piece:?} has {} tokens", tokens.count);
        assert!(began.elapsed() < Duration::from_secs(20), "{piece:?} took {:?}", began.elapsed());
    }
}
