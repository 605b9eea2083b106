//! How tokens are chosen and when an answer stops: limits, stop strings, seeds, temperatures, log probabilities.

use std::sync::Arc;

use llm_core::{ChatReply, ChatRequest, FinishReason, Result};

use super::Door;
use super::chat::{PARIS, capital};
use crate::factor;

/// The whole answer, streamed.
async fn streamed(door: &Door, request: ChatRequest) -> Result<ChatReply> {
    let mut stream = door.llm.stream(request).await?;
    while stream.next().await?.is_some() {}
    Ok(stream.so_far().clone())
}

/// What a model says that is driven out of its mind: half-finished characters and all.
fn wild(seed: u64) -> ChatRequest {
    ChatRequest::new("Tell me something.").temperature(2.0).seed(seed).max_tokens(48).extra("ignore_eos", true)
}

pub(super) async fn max_tokens_cut_the_answer(door: Arc<Door>) -> Result<()> {
    for reply in [door.llm.chat(capital().max_tokens(2)).await?, streamed(&door, capital().max_tokens(2)).await?] {
        assert_eq!((reply.text.as_str(), reply.finish_reason), ("The capital", Some(FinishReason::Length)));
        assert_eq!(reply.usage.expect("it tells what it costs").completion_tokens, 2);
    }
    Ok(())
}

pub(super) async fn the_answer_ends_before_a_stop_string(door: Arc<Door>) -> Result<()> {
    // A word, the middle of a token, more than one token, and one that never comes.
    for stop in ["France", "api", "l of Fr", "Rome"] {
        let expected = PARIS.split(stop).next().unwrap_or_default();
        let request = capital().stop(stop);
        for reply in [door.llm.chat(request.clone()).await?, streamed(&door, request.clone()).await?] {
            assert_eq!((reply.text.as_str(), reply.finish_reason), (expected, Some(FinishReason::Stop)), "{stop}");
        }
    }
    let both = door.llm.chat(capital().stop("Paris").stop("of")).await?;
    assert_eq!(both.text, "The capital ");
    Ok(())
}

pub(super) async fn a_seed_repeats_its_answer(door: Arc<Door>) -> Result<()> {
    // Not so wild that the rounding of another batch decides: the second answer finds its prompt computed.
    let seeded = |seed| door.llm.chat(wild(seed).temperature(1.5).max_tokens(32));
    let first = seeded(1).await?.text;
    assert_eq!(first, seeded(1).await?.text);
    assert_ne!(first, seeded(2).await?.text);
    Ok(())
}

pub(super) async fn greedy_answers_repeat_themselves(door: Arc<Door>) -> Result<()> {
    let question = ChatRequest::new("Count from 1 to 80").temperature(0.0).max_tokens(60);
    let first = door.llm.chat(question.clone()).await?.text;
    assert!(first.starts_with("1 2 3 4 5"), "{first}");
    for _ in 0..3 * factor() {
        assert_eq!(door.llm.chat(question.clone()).await?.text, first);
    }
    Ok(())
}

pub(super) async fn the_wildest_text_streams_as_it_is_said_whole(door: Arc<Door>) -> Result<()> {
    for seed in 0..4 * factor() as u64 {
        let (whole, stream) = (door.llm.chat(wild(seed)).await?, streamed(&door, wild(seed)).await?);
        assert_eq!(whole.text, stream.text, "seed {seed}");
    }
    Ok(())
}

pub(super) async fn log_probabilities_are_told_for_every_token(door: Arc<Door>) -> Result<()> {
    let whole = door.llm.chat(capital().logprobs(2)).await?;
    let tokens: String = whole.logprobs.iter().map(|l| l.token.as_str()).collect();
    assert!(tokens.starts_with(&whole.text) && whole.text == PARIS, "{tokens}");
    assert!(whole.logprobs.iter().all(|l| l.logprob <= 0.0 && l.top_logprobs.len() == 2), "{:?}", whole.logprobs);
    let likeliest = |l: &llm_core::Logprob| l.top_logprobs.iter().all(|other| other.logprob <= l.logprob + 1e-4);
    assert!(whole.logprobs.iter().all(likeliest), "greedy takes the likeliest: {:?}", whole.logprobs);
    let stream = streamed(&door, capital().logprobs(2)).await?;
    assert_eq!(stream.logprobs.len(), whole.logprobs.len());
    Ok(())
}

pub(super) async fn of_several_answers_the_first_is_told(door: Arc<Door>) -> Result<()> {
    // Nearly greedy: vLLM refuses to say twice what can only be the same.
    let twice = || ChatRequest { n: Some(2), ..capital().temperature(0.1).seed(1) };
    let reply = door.llm.chat(twice()).await?;
    assert_eq!((reply.text.as_str(), reply.finish_reason), (PARIS, Some(FinishReason::Stop)));
    assert_eq!(streamed(&door, twice()).await?.text, PARIS);
    Ok(())
}
