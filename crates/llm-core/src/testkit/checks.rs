//! The checks that every provider is put to, one promise each.
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context as Task, Poll, Waker};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::join_all;

use super::conformance::Subject;
use crate::call::*;
use crate::error::{Error, Kind};

/// Why a promise is not kept.
type Kept = Result<(), String>;
type Check = for<'a> fn(&'a Subject<'a>) -> BoxFuture<'a, Kept>;

/// Every promise and how it is checked.
pub(super) const CHECKS: &[(&str, Check)] = &[
    ("it answers whole", |s| Box::pin(whole(s))),
    ("it streams the same answer, in order, and finishes once", |s| Box::pin(streams(s))),
    ("it tells what an answer cost, both ways or never", |s| Box::pin(costs(s))),
    ("its answers end once", |s| Box::pin(ends(s))),
    ("it answers several at once, each its own", |s| Box::pin(several(s))),
    ("it stops when its stream is dropped", |s| Box::pin(stops_in_the_middle(s))),
    ("it stops when nobody waits for its first word", |s| Box::pin(stops_at_once(s))),
    ("what it does not serve is Unsupported", |s| Box::pin(unsupported(s))),
    ("what it refuses has its kind, and tells no secrets", |s| Box::pin(refuses(s))),
    ("it embeds one vector a text, in order", |s| Box::pin(embeds(s))),
    ("it counts tokens", |s| Box::pin(counts(s))),
    ("it lists its models", |s| Box::pin(lists(s))),
];

async fn answer(subject: &Subject<'_>, delivery: Delivery) -> Result<ChatReply, String> {
    let call = subject.call(&subject.question, delivery);
    let reply = subject.provider.call(&call).await.map_err(told)?;
    reply.chat().await.map_err(told)
}

fn told(error: Error) -> String {
    format!("{error:?}")
}

fn holds(claim: bool, otherwise: impl FnOnce() -> String) -> Kept {
    if claim { Ok(()) } else { Err(otherwise()) }
}

fn chats(subject: &Subject<'_>) -> bool {
    subject.operations.contains(Operation::Chat)
}

async fn whole(subject: &Subject<'_>) -> Kept {
    if !chats(subject) {
        return Ok(());
    }
    let said = answer(subject, Delivery::Whole).await?;
    holds(!said.text.is_empty(), || "it says nothing".into())?;
    let wanted = subject.says.as_deref().unwrap_or(&said.text);
    holds(said.text == wanted, || format!("it says {:?} instead of {wanted:?}", said.text))
}

async fn streams(subject: &Subject<'_>) -> Kept {
    if !chats(subject) {
        return Ok(());
    }
    let whole = answer(subject, Delivery::Whole).await?;
    let call = subject.call(&subject.question, Delivery::Stream);
    let mut events = subject.provider.call(&call).await.map_err(told)?.events();
    let (mut text, mut finishes) = (String::new(), 0);
    while let Some(frame) = events.next().await {
        let Frame::Event(event) = frame.map_err(told)? else { return Err("a frame that is no event".into()) };
        let is_word = matches!(event, Event::Text(_) | Event::Reasoning(_) | Event::ToolCall(_));
        holds(!(is_word && finishes > 0), || "it says something after its finish".into())?;
        finishes += usize::from(matches!(event, Event::Finish(_)));
        if let Event::Text(more) = event {
            text += &more;
        }
    }
    holds(finishes == 1, || format!("it finishes {finishes} times"))?;
    holds(text == whole.text, || format!("it streams {text:?}, and says {:?} whole", whole.text))
}

async fn costs(subject: &Subject<'_>) -> Kept {
    if !chats(subject) {
        return Ok(());
    }
    let (whole, streamed) =
        (answer(subject, Delivery::Whole).await?.usage, answer(subject, Delivery::Stream).await?.usage);
    match (whole, streamed) {
        (None, None) => Ok(()),
        (Some(whole), Some(streamed)) => {
            let cost = |usage: &Usage| (usage.prompt_tokens, usage.completion_tokens);
            holds(whole.completion_tokens > 0, || "an answer without tokens".into())?;
            holds(cost(&whole) == cost(&streamed), || format!("whole {whole:?}, and streamed {streamed:?}"))
        }
        (whole, streamed) => Err(format!("whole {whole:?}, and streamed {streamed:?}")),
    }
}

async fn ends(subject: &Subject<'_>) -> Kept {
    if !chats(subject) {
        return Ok(());
    }
    let told_of = Arc::<Mutex<Vec<End>>>::default();
    for is_left in [false, true] {
        let ends = told_of.clone();
        let call = subject.call(&subject.question, Delivery::Stream);
        let reply = subject.provider.call(&call).await.map_err(told)?;
        let reply = reply.on_end(move |end| ends.lock().unwrap_or_else(PoisonError::into_inner).push(end));
        let mut events = reply.events();
        while !is_left && events.next().await.is_some() {}
    }
    let ends = told_of.lock().unwrap_or_else(PoisonError::into_inner).clone();
    holds(matches!(ends[..], [End::Finished(_), End::Dropped]), || format!("finished and left, it is told {ends:?}"))
}

async fn several(subject: &Subject<'_>) -> Kept {
    if !chats(subject) {
        return Ok(());
    }
    let alone = answer(subject, Delivery::Whole).await?.text;
    let delivery = |n| if n % 2 == 0 { Delivery::Whole } else { Delivery::Stream };
    for together in join_all((0..4).map(|n| answer(subject, delivery(n)))).await {
        let together = together?.text;
        holds(together == alone, || format!("alone it says {alone:?}, among others {together:?}"))?;
    }
    Ok(())
}

async fn stops_in_the_middle(subject: &Subject<'_>) -> Kept {
    let (Some(running), Some(long)) = (&subject.running, &subject.long) else { return Ok(()) };
    let mut best = Duration::MAX;
    for _ in 0..3 {
        let call = subject.call(long, Delivery::Stream);
        let mut events = subject.provider.call(&call).await.map_err(told)?.events();
        let first = events.next().await.ok_or("an empty stream")?;
        first.map_err(told)?;
        holds(running() > 0, || "its long answer was over at once, so there is no middle to leave it in".into())?;
        drop(events);
        best = best.min(subject.stops(running).await); // a busy machine may be late, but not always
    }
    holds(best <= subject.stops_within, || format!("it went on for {best:?}"))
}

async fn stops_at_once(subject: &Subject<'_>) -> Kept {
    let (Some(running), Some(long)) = (&subject.running, &subject.long) else { return Ok(()) };
    let mut best = Duration::MAX;
    for _ in 0..3 {
        let call = subject.call(long, Delivery::Whole);
        let mut answer = subject.provider.call(&call);
        let begun = begins(&mut answer, running).await; // a reply that is there already is work under way, too
        holds(running() > 0, || "its long answer never began, or was over at once".into())?;
        drop((answer, begun));
        best = best.min(subject.stops(running).await);
    }
    holds(best <= subject.stops_within, || format!("it went on for {best:?}"))
}

/// Drives a call until its work runs, or it has answered.
async fn begins<T>(answer: &mut BoxFuture<'_, T>, running: &(dyn Fn() -> usize + Send + Sync)) -> Option<T> {
    for _ in 0..1_000 {
        if let Poll::Ready(answer) = answer.as_mut().poll(&mut Task::from_waker(Waker::noop())) {
            return Some(answer);
        }
        if running() > 0 {
            return None;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    None
}

async fn unsupported(subject: &Subject<'_>) -> Kept {
    let requests: [Request; 5] = [
        subject.question.clone().into(),
        CompleteRequest::new("The capital of France is").into(),
        EmbedRequest::new(["a text"]).into(),
        TokenizeRequest {
            model: String::new(),
            prompt: "a text".into(),
            add_special_tokens: true,
            extra: Default::default(),
        }
        .into(),
        DetokenizeRequest { tokens: vec![1], ..DetokenizeRequest::default() }.into(),
    ];
    for request in requests.into_iter().filter(|request| !subject.provider.serves().contains(request.operation())) {
        let operation = request.operation();
        match subject.provider.call(&Call::new(request, Delivery::Whole)).await {
            Ok(_) => return Err(format!("it answers {operation}, which it says it does not serve")),
            Err(error) if error.kind() == Kind::Unsupported => {}
            Err(error) => return Err(format!("{operation}: {error:?}")),
        }
    }
    Ok(())
}

async fn refuses(subject: &Subject<'_>) -> Kept {
    for (call, kind) in &subject.refusals {
        let answer = async {
            subject
                .provider
                .call(call)
                .await?
                .events()
                .collect::<Vec<_>>()
                .await
                .into_iter()
                .collect::<Result<Vec<_>, _>>()
        };
        let error = answer.await.err().ok_or_else(|| format!("{call:?}: it answers, and should refuse as {kind:?}"))?;
        holds(error.kind() == *kind, || format!("{call:?}: {error:?} instead of {kind:?}"))?;
        holds(!error.message().is_empty(), || format!("{call:?}: an error without words"))?;
        let prompt = call.chat().map(ChatRequest::last_text).unwrap_or_default();
        let is_told = prompt.len() > 20 && error.to_string().contains(&prompt);
        holds(!is_told, || format!("{call:?}: the prompt stands in the error"))?;
    }
    Ok(())
}

async fn embeds(subject: &Subject<'_>) -> Kept {
    if !subject.operations.contains(Operation::Embed) {
        return Ok(());
    }
    let texts = ["the cat sat on the mat", "stock markets fell today", "a third text"];
    let together = vectors(subject, &texts).await?;
    holds(together.len() == texts.len(), || format!("{} texts, {} vectors", texts.len(), together.len()))?;
    let length = together[0].len();
    holds(length > 0 && together.iter().all(|v| v.len() == length), || "vectors of different lengths".into())?;
    holds(together.iter().flatten().all(|x| x.is_finite()), || "a vector with something that is no number".into())?;
    for (text, among) in texts.iter().zip(&together) {
        let alone = vectors(subject, &[text]).await?.pop().ok_or("no vector")?;
        let cosine = cosine(&alone, among);
        holds(cosine > 0.99, || format!("alone and among others a text has vectors with a cosine of {cosine}"))?;
    }
    Ok(())
}

async fn vectors(subject: &Subject<'_>, texts: &[&str]) -> Result<Vec<Vec<f32>>, String> {
    let mut request = EmbedRequest::new(texts.iter().copied());
    request.model.clone_from(&subject.model);
    let reply = subject.provider.call(&Call::new(request, Delivery::Whole)).await.map_err(told)?;
    let embeddings = reply.single(|frame| if let Frame::Vectors(v) = frame { Some(v) } else { None });
    Ok(embeddings.await.map_err(told)?.vectors)
}

fn cosine(one: &[f32], other: &[f32]) -> f32 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
    dot(one, other) / (dot(one, one) * dot(other, other)).sqrt().max(f32::MIN_POSITIVE)
}

async fn counts(subject: &Subject<'_>) -> Kept {
    if !subject.operations.contains(Operation::Tokenize) {
        return Ok(());
    }
    let count = async |text: &str| {
        let model = subject.model.clone();
        let request =
            TokenizeRequest { model, prompt: text.into(), add_special_tokens: true, extra: Default::default() };
        let reply = subject.provider.call(&Call::new(request, Delivery::Whole)).await.map_err(told)?;
        let tokens =
            reply.single(|frame| if let Frame::Tokens(t) = frame { Some(t) } else { None }).await.map_err(told)?;
        let is_whole = tokens.tokens.is_empty() || tokens.tokens.len() == tokens.count;
        holds(is_whole, || format!("it counts {} and lists {}", tokens.count, tokens.tokens.len()))?;
        Ok::<_, String>(tokens.count)
    };
    let (short, long) = (count("one two").await?, count("one two three four five six seven eight").await?);
    holds(0 < short && short < long, || format!("{short} for a short text, {long} for a longer one"))
}

async fn lists(subject: &Subject<'_>) -> Kept {
    if !subject.operations.contains(Operation::Models) {
        return Ok(());
    }
    let reply = subject.provider.call(&Call::new(Request::Models, Delivery::Whole)).await.map_err(told)?;
    let models = reply.models().await.map_err(told)?;
    holds(!models.is_empty() && models.iter().all(|model| !model.id.is_empty()), || format!("{models:?}"))
}
