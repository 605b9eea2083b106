//! Many at once, those who leave, and fair shares.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::try_join_all;
use llm_core::{ChatRequest, Result};

use super::{CHAT, Door};
use crate::factor;

/// An answer that somebody leaves begins and ends for the model this soon, on a machine that has other things to do.
const SOON: Duration = Duration::from_secs(20);
/// What a user must have got when the first of them has all, of an equal share.
const FAIR: f64 = 0.9;

fn short(question: &str) -> ChatRequest {
    ChatRequest::new(question).temperature(0.0).max_tokens(40)
}

/// Goes on for so many tokens, whatever the model would rather do.
fn long(tokens: usize) -> ChatRequest {
    short("Count from 1 to 80").max_tokens(tokens as u32).extra("ignore_eos", true)
}

pub(super) async fn eight_at_once_are_answered_each_its_own(door: Arc<Door>) -> Result<()> {
    let questions = ["What is the capital of France?", "Say OK", "ping", "Count slowly"];
    let mut alone = Vec::new();
    for question in questions {
        alone.push(door.llm.chat(short(question)).await?.text);
    }
    for _ in 0..factor() {
        let whole = try_join_all(questions.map(|question| whole(&door, question)));
        let streamed = try_join_all(questions.map(|question| streamed(&door, question)));
        let (whole, streamed) = tokio::try_join!(whole, streamed)?;
        assert_eq!((&whole, &streamed), (&alone, &alone), "among others, and alone");
    }
    Ok(())
}

async fn whole(door: &Door, question: &str) -> Result<String> {
    Ok(door.llm.chat(short(question)).await?.text)
}

async fn streamed(door: &Door, question: &str) -> Result<String> {
    let mut stream = door.llm.stream(short(question)).await?;
    while stream.next().await?.is_some() {}
    Ok(stream.so_far().text.clone())
}

pub(super) async fn who_leaves_frees_the_model(door: Arc<Door>) -> Result<()> {
    let stream = || async {
        let mut stream = door.llm.stream(long(1500)).await?;
        stream.next_text().await?;
        Ok(stream)
    };
    drop(made(&door, "its stream", stream).await?);
    until(&door, "its stream is left", |running| running == 0).await;
    let whole = || async {
        let (llm, question) = (door.llm.clone(), long(1500));
        Ok(tokio::spawn(async move { llm.chat(question).await }))
    };
    made(&door, "its answer", whole).await?.abort();
    until(&door, "its answer is left", |running| running == 0).await;
    let models = door.llm.models();
    assert!(models.iter().all(|model| model.id != CHAT || model.running == 0), "{models:?}");
    Ok(())
}

/// An answer that is being made. On a machine that has other things to do, one may be over before anybody looks; then there
/// is another.
async fn made<T, F: Future<Output = Result<T>>>(door: &Door, what: &str, begin: impl Fn() -> F) -> Result<T> {
    for _ in 0..5 {
        let (begun, since) = (begin().await?, Instant::now());
        while since.elapsed() < SOON / 5 {
            if (door.running)() == 1 {
                return Ok(begun);
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    panic!("{} run, and {what} is made", (door.running)());
}

async fn until(door: &Door, what: &str, claim: impl Fn(usize) -> bool) {
    let since = Instant::now();
    while !claim((door.running)()) {
        assert!(since.elapsed() < SOON, "{} run, and {what}", (door.running)());
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// When a user was told how many more letters. All ask the same, so that letters tell of tokens.
type Told = Vec<(Duration, usize)>;

pub(super) async fn five_users_get_fair_shares(door: Arc<Door>) -> Result<()> {
    let mut unfair = Vec::new();
    // A busy machine may hold one of them up, but not always.
    for _ in 0..5 {
        let since = Instant::now();
        match unfairness(&try_join_all((0..5).map(|_| user(&door, since))).await?) {
            None => return Ok(()),
            Some(why) => unfair.push(why),
        }
    }
    panic!("five times: {unfair:?}");
}

/// Whether somebody waited for another's whole answer, or had got too little by the time when the first had all.
fn unfairness(users: &[Told]) -> Option<String> {
    let first_end = users.iter().filter_map(|told| told.last()).map(|told| told.0).min()?;
    let waited = users.iter().filter_map(|told| told.first()).map(|told| told.0).max()?;
    if waited >= first_end {
        return Some(format!("one waited {waited:?} for a first word, and another had all after {first_end:?}"));
    }
    let share = |told: &Told| told.iter().filter(|(when, _)| *when <= first_end).map(|(_, letters)| letters).sum();
    let shares: Vec<usize> = users.iter().map(share).collect();
    let fair = shares.iter().sum::<usize>() as f64 / shares.len() as f64;
    let is_fair = shares.iter().all(|share| *share as f64 >= FAIR * fair);
    (!is_fair).then(|| format!("of {fair} letters they got {shares:?}"))
}

async fn user(door: &Door, since: Instant) -> Result<Told> {
    let (mut stream, mut told) = (door.llm.stream(long(300 * factor().min(4))).await?, Vec::new());
    while let Some(text) = stream.next_text().await? {
        told.push((since.elapsed(), text.len()));
    }
    Ok(told)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(first_ms: u64, every_ms: u64, words: u64) -> Told {
        (0..words).map(|n| (Duration::from_millis(first_ms + n * every_ms), 2)).collect()
    }

    #[test]
    fn who_waits_for_another_or_gets_less_is_treated_unfairly() {
        assert_eq!(unfairness(&[told(0, 2, 100), told(5, 2, 100)]), None);
        assert!(unfairness(&[told(0, 2, 100), told(200, 2, 100)]).unwrap().contains("for a first word"));
        assert!(unfairness(&[told(0, 2, 100), told(0, 3, 100)]).unwrap().contains("letters"));
    }
}
