//! Many clients at once: nothing lost, nobody held up, those who leave gone at once, and little memory shared by all.
mod common;

use common::*;
use futures_util::StreamExt;
use futures_util::future::{Either, join_all, select};
use llm_core::{Frame, Kind};
use llm_engine::Config;
use std::time::Duration;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixty_four_streams_at_once_finish_with_nothing_lost() {
    let engine = loaded(config()).await;
    let alone = answer(&engine, long("Count to 20.", 50)).await.unwrap();
    let all = join_all((0..64).map(|_| answer(&engine, long("Count to 20.", 50)))).await;
    for reply in all {
        let reply = reply.unwrap();
        assert_eq!((reply.text, reply.finish_reason), (alone.text.clone(), LENGTH));
        assert_eq!(reply.usage.unwrap().completion_tokens, 50);
    }
    until("all slots are free", Duration::from_millis(100), || engine.running() == 0).await;
}

#[tokio::test]
async fn a_client_that_leaves_frees_its_slot() {
    let engine = loaded(config()).await;
    let mut frames = ask(&engine, long("Tell me a long story.", 1900)).await.unwrap().events();
    assert!(is_text(&frames.next().await.unwrap()));
    assert_eq!(engine.running(), 1);
    drop(frames);
    until("the slot is free", Duration::from_millis(100), || engine.running() == 0).await;
}

#[tokio::test]
async fn one_who_leaves_in_line_is_never_computed() {
    let engine = loaded(Config { slots: 1, ..config() }).await;
    let mut first = ask(&engine, long("Tell me a long story.", 1900)).await.unwrap().events();
    assert!(is_text(&first.next().await.unwrap()));
    let waiting =
        tokio::time::timeout(Duration::from_millis(50), ask(&engine, greedy("What is the capital of France?")));
    assert!(waiting.await.is_err(), "there is one slot, and it is taken");
    drop(first);
    until("the slot is free", Duration::from_millis(500), || engine.running() == 0).await;
    let reply = answer(&engine, greedy("What is the capital of France?")).await.unwrap();
    assert_eq!(reply.usage.unwrap().cached_tokens, Some(common_start(&engine).await));
}

/// Tokens that the two questions above have in common: the template's beginning.
async fn common_start(engine: &llm_engine::EngineProvider) -> u32 {
    let (one, other) =
        (tokens(engine, "Tell me a long story.").await, tokens(engine, "What is the capital of France?").await);
    one.iter().zip(&other).take_while(|(a, b)| a == b).count() as u32
}

async fn tokens(engine: &llm_engine::EngineProvider, question: &str) -> Vec<u32> {
    let prompt = llm_core::Prompt::Chat(vec![llm_core::Message::user(question)]);
    let (model, extra) = (String::new(), Default::default());
    let request = llm_core::TokenizeRequest { model, prompt, add_special_tokens: true, extra };
    match frame(engine, llm_core::Request::Tokenize(request)).await.unwrap() {
        Frame::Tokens(tokens) => tokens.tokens,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn who_finds_the_line_full_is_told_so_at_once() {
    let engine = loaded(Config { slots: 1, waiting: 1, ..config() }).await;
    let mut first = ask(&engine, long("Tell me a long story.", 1900)).await.unwrap().events();
    assert!(is_text(&first.next().await.unwrap()));
    let second = ask(&engine, greedy("What is the capital of France?"));
    let third = async {
        // Polled after the second, which has taken the last place by then or will answer.
        until("the line is full", Duration::from_secs(5), || engine.places() == 0).await;
        kind_of(ask(&engine, greedy("Hello")).await)
    };
    let (second, third) = tokio::join!(second, async {
        let kind = third.await;
        drop(first);
        kind
    });
    assert_eq!(third, Kind::Overloaded);
    assert!(second.is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_short_question_is_answered_while_a_long_answer_is_being_given() {
    let engine = loaded(config()).await;
    let mut long_one = ask(&engine, long("Tell me a long story.", 1900)).await.unwrap().events();
    assert!(is_text(&long_one.next().await.unwrap()));
    assert_eq!(text(&engine, greedy("What is the capital of France?")).await, "The capital of France is Paris.");
    until("only the long answer is left", Duration::from_secs(5), || engine.running() == 1).await;
    assert!(is_text(&long_one.next().await.unwrap()), "the long answer is still being given");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_that_outgrow_the_memory_wait_for_each_other_and_stay_the_same() {
    let roomy = loaded(config()).await;
    // 512 cells for eight answers of up to 220 tokens.
    let tight = loaded(Config { context: Some(512), cache_mib: Some(1), ..config() }).await;
    let question = |n| long(&format!("Count to {n}."), 200);
    for (n, reply) in join_all((20..28).map(|n| answer(&tight, question(n)))).await.into_iter().enumerate() {
        let reply = reply.unwrap();
        assert_eq!(reply.usage.unwrap().completion_tokens, 200);
        assert_eq!(reply.text, text(&roomy, question(n + 20)).await);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_who_leaves_while_waiting_for_memory_holds_up_nobody() {
    // 1024 cells: the older answer outgrows them together with the younger one, which waits from then on.
    let engine = loaded(Config { context: Some(1024), cache_mib: Some(1), ..config() }).await;
    let mut older = ask(&engine, long("Count to 20.", 950)).await.unwrap().events();
    assert!(is_text(&older.next().await.unwrap()));
    let mut younger = ask(&engine, long("Tell me a long story.", 950)).await.unwrap().events();
    assert!(is_text(&younger.next().await.unwrap()));
    for _ in 0..600 {
        assert!(is_text(&older.next().await.unwrap()));
    }
    drop(younger);
    let short = std::pin::pin!(text(&engine, greedy("What is the capital of France?")));
    let older = std::pin::pin!(older.count());
    // Were there no room for it, it would be let in after the older answer's end.
    match select(short, older).await {
        Either::Left((short, _)) => assert_eq!(short, "The capital of France is Paris."),
        Either::Right(_) => panic!("the short question waited for the older answer's end"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn neighbours_of_those_who_leave_are_unharmed() {
    let engine = loaded(config()).await;
    let alone = text(&engine, long("Count to 20.", 200)).await;
    let leaving = async {
        for n in 0..40 {
            let mut frames = ask(&engine, long(&format!("Tell me story number {n}."), 500)).await.unwrap().events();
            for _ in 0..n % 5 {
                frames.next().await;
            }
        }
    };
    let staying = join_all((0..3).map(|_| text(&engine, long("Count to 20.", 200))));
    let (stayed, ()) = tokio::join!(staying, leaving);
    assert!(stayed.iter().all(|text| *text == alone), "{stayed:?}");
}
