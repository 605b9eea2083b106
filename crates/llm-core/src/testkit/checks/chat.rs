//! That it answers: whole and streamed the same, with an end and a cost, alone and among others.
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::StreamExt;
use futures_util::future::join_all;

use super::{Kept, answer, chats, holds, told};
use crate::call::*;
use crate::testkit::Subject;

pub(super) async fn whole(subject: &Subject<'_>) -> Kept {
    if !chats(subject) {
        return Ok(());
    }
    let said = answer(subject, Delivery::Whole).await?;
    holds(!said.text.is_empty(), || "it says nothing".into())?;
    let wanted = subject.says.as_deref().unwrap_or(&said.text);
    holds(said.text == wanted, || format!("it says {:?} instead of {wanted:?}", said.text))
}

pub(super) async fn streams(subject: &Subject<'_>) -> Kept {
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

pub(super) async fn costs(subject: &Subject<'_>) -> Kept {
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

pub(super) async fn ends(subject: &Subject<'_>) -> Kept {
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

pub(super) async fn several(subject: &Subject<'_>) -> Kept {
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

pub(super) async fn calls(subject: &Subject<'_>) -> Kept {
    for (question, tool) in &subject.calls {
        for delivery in [Delivery::Whole, Delivery::Stream] {
            let reply = subject.provider.call(&subject.call(question, delivery)).await.map_err(told)?;
            let reply = reply.chat().await.map_err(told)?;
            called(&reply, tool).map_err(|why| format!("{delivery:?}: {why}"))?;
        }
    }
    Ok(())
}

fn called(reply: &ChatReply, tool: &str) -> Kept {
    let [call] = &reply.tool_calls[..] else {
        return Err(format!("{} calls instead of one of {tool}", reply.tool_calls.len()));
    };
    let name = &call.function.name;
    holds(name == tool, || format!("it calls {name:?} instead of {tool:?}"))?;
    holds(!call.id.is_empty(), || "its call has no id, which a result must name".into())?;
    call.arguments::<serde_json::Map<String, serde_json::Value>>().map(drop).map_err(told)
}
