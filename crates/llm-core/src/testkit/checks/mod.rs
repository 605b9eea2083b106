//! The checks that every provider is put to, one promise each.
mod chat;
mod leaving;
mod others;

use super::conformance::Subject;
use crate::call::*;
use crate::error::Error;

/// Why a promise is not kept.
type Kept = Result<(), String>;
type Check = for<'a> fn(&'a Subject<'a>) -> BoxFuture<'a, Kept>;

/// Every promise and how it is checked.
pub(super) const CHECKS: &[(&str, Check)] = &[
    ("it answers whole", |s| Box::pin(chat::whole(s))),
    ("it streams the same answer, in order, and finishes once", |s| Box::pin(chat::streams(s))),
    ("it tells what an answer cost, both ways or never", |s| Box::pin(chat::costs(s))),
    ("its answers end once", |s| Box::pin(chat::ends(s))),
    ("it answers several at once, each its own", |s| Box::pin(chat::several(s))),
    ("it wants the tool called that it was asked for", |s| Box::pin(chat::calls(s))),
    ("it stops when its stream is dropped", |s| Box::pin(leaving::in_the_middle(s))),
    ("it stops when nobody waits for its first word", |s| Box::pin(leaving::at_once(s))),
    ("what it does not serve is Unsupported", |s| Box::pin(others::unsupported(s))),
    ("what it refuses has its kind, and tells no secrets", |s| Box::pin(others::refuses(s))),
    ("it goes on with a text, whole and streamed the same", |s| Box::pin(others::completes(s))),
    ("it embeds one vector a text, in order", |s| Box::pin(others::embeds(s))),
    ("it ranks documents, the best first", |s| Box::pin(others::ranks(s))),
    ("it scores each text by itself", |s| Box::pin(others::scores(s))),
    ("it counts tokens", |s| Box::pin(others::counts(s))),
    ("it turns tokens back into text", |s| Box::pin(others::detokenizes(s))),
    ("it lists its models", |s| Box::pin(others::lists(s))),
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
