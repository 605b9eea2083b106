//! What a program must see of each difficult server: the assertions of the scenarios.
use std::time::{Duration, Instant};

use super::mock::Mock;
use super::scenarios::Scenario;
use crate::call::*;
use crate::error::{Error, Kind, Result};
use crate::llm::{ChatStream, Llm};

/// What was seen instead of what is wanted.
pub(super) type Seen = Result<(), String>;
pub(super) type Check = for<'a> fn(&'a Trial<'a>) -> BoxFuture<'a, Seen>;

/// A program before the server of a scenario.
pub(super) struct Trial<'a> {
    pub(super) scenario: Scenario,
    pub(super) llm: &'a (dyn Fn(&str) -> Llm + Send + Sync),
}

/// A stream at its end.
struct Streamed {
    finishes: usize,
    error: Option<Error>,
    reply: ChatReply,
}

impl Trial<'_> {
    async fn begins(&self) -> (Mock, Llm) {
        let server = self.scenario.serve().await;
        let llm = (self.llm)(&server.url());
        (server, llm)
    }

    /// The answer, and how often the server was asked for it.
    async fn whole(&self) -> (Result<ChatReply>, usize) {
        let (server, llm) = self.begins().await;
        let reply = llm.chat("?").await;
        (reply, server.requests().len())
    }

    async fn streamed(&self) -> Result<Streamed, String> {
        let (_server, llm) = self.begins().await;
        streams(&llm).await
    }
}

async fn streams(llm: &Llm) -> Result<Streamed, String> {
    Ok(rest(llm.stream("?").await.map_err(told)?).await)
}

async fn rest(mut stream: ChatStream) -> Streamed {
    let mut finishes = 0;
    let error = loop {
        match stream.next().await {
            Ok(Some(event)) => finishes += usize::from(matches!(event, Event::Finish(_))),
            Ok(None) => break None,
            Err(error) => break Some(error),
        }
    };
    Streamed { finishes, error, reply: stream.so_far().clone() }
}

fn told(error: Error) -> String {
    format!("{error:?}")
}

fn holds(claim: bool, otherwise: impl FnOnce() -> String) -> Seen {
    if claim { Ok(()) } else { Err(otherwise()) }
}

/// Half an answer and then an error, which is handed on.
fn half(streamed: Streamed) -> Result<Error, String> {
    let Streamed { finishes, error, reply } = streamed;
    holds(reply.text == "half" && finishes == 0, || format!("{:?} and {finishes} finishes", reply.text))?;
    error.ok_or_else(|| "half an answer without an error".into())
}

/// A whole stream, which says this.
fn says(streamed: &Streamed, text: &str) -> Seen {
    let Streamed { finishes, error, reply } = streamed;
    holds(error.is_none() && *finishes == 1, || format!("{finishes} finishes, {error:?}"))?;
    holds(reply.text == text, || format!("it streams {:?}", reply.text))
}

fn is_kind(error: &Error, kind: Kind) -> Seen {
    holds(error.kind() == kind, || format!("{error:?}"))
}

async fn closes(server: &Mock) -> Seen {
    let closed = tokio::time::timeout(Duration::from_secs(1), server.closed()).await;
    closed.map_err(|_| "the connection stays open".into())
}

pub(super) async fn too_long(trial: &Trial<'_>) -> Seen {
    let (reply, asked) = trial.whole().await;
    let Err(error) = reply else { return Err("an answer".into()) };
    is_kind(&error, Kind::ContextLength)?;
    holds(asked == 1, || format!("it was asked {asked} times"))?;
    holds(error.get_code() == Some("context_length_exceeded"), || format!("the code {:?}", error.get_code()))?;
    holds(error.message().starts_with("This model's maximum context length is 2048"), || told(error))
}

pub(super) async fn busy(trial: &Trial<'_>) -> Seen {
    fine_at_last(trial).await?;
    says(&trial.streamed().await?, "fine")
}

async fn fine_at_last(trial: &Trial<'_>) -> Seen {
    let (reply, asked) = trial.whole().await;
    let text = reply.map_err(told)?.text;
    holds((text.as_str(), asked) == ("fine", 2), || format!("{text:?}, asked {asked} times"))
}

pub(super) async fn waits(trial: &Trial<'_>) -> Seen {
    let since = Instant::now();
    fine_at_last(trial).await?;
    // A timer may be a hair early, and a second is what an error without a word about it waits.
    holds(since.elapsed() >= Duration::from_millis(1_990), || format!("it waited for {:?}", since.elapsed()))
}

pub(super) async fn answers(trial: &Trial<'_>) -> Seen {
    let text = trial.whole().await.0.map_err(told)?.text;
    holds(text == "fine", || format!("it says {text:?}"))
}

pub(super) async fn odd_finish(trial: &Trial<'_>) -> Seen {
    let ((_first, whole), (_second, streamed)) = (trial.begins().await, trial.begins().await);
    let other = |word: &str| Some(FinishReason::Other(word.into()));
    for reason in [other("abort"), other("repetition"), Some(FinishReason::Stop)] {
        let reply = whole.chat("?").await.map_err(told)?;
        holds(reply.text == "fine" && reply.finish_reason == reason, || format!("{:?}", reply.finish_reason))?;
        let stream = streams(&streamed).await?;
        says(&stream, "fine")?;
        holds(stream.reply.finish_reason == reason, || format!("{:?}, streamed", stream.reply.finish_reason))?;
    }
    Ok(())
}

pub(super) async fn thinks(trial: &Trial<'_>) -> Seen {
    let ((_first, whole), (_second, streamed)) = (trial.begins().await, trial.begins().await);
    for _ in 0..2 {
        let stream = streams(&streamed).await?;
        says(&stream, "fine")?;
        for reply in [whole.chat("?").await.map_err(told)?, stream.reply] {
            let thought = (reply.reasoning.as_str(), reply.text.as_str());
            holds(thought == ("let me think", "fine"), || format!("{thought:?}"))?;
            let cost = reply.usage.map(|usage| usage.completion_tokens);
            holds(cost == Some(8), || format!("it costs {cost:?}, though the server tells"))?;
        }
    }
    Ok(())
}

pub(super) async fn fails_in_mid_stream(trial: &Trial<'_>) -> Seen {
    let (_server, llm) = trial.begins().await;
    for shape in ["an event of its own", "beside a choice"] {
        let error = half(streams(&llm).await?).map_err(|why| format!("{shape}: {why}"))?;
        is_kind(&error, Kind::Upstream)?;
        holds(error.message() == "the engine died", || format!("{shape}: {error:?}"))?;
    }
    Ok(())
}

pub(super) async fn cut(trial: &Trial<'_>) -> Seen {
    let error = half(trial.streamed().await?)?;
    is_kind(&error, Kind::Upstream)?;
    holds(error.get_code() == Some("stream_truncated"), || format!("the code {:?}", error.get_code()))
}

pub(super) async fn reset(trial: &Trial<'_>) -> Seen {
    is_kind(&half(trial.streamed().await?)?, Kind::Upstream)
}

pub(super) async fn two_tools(trial: &Trial<'_>) -> Seen {
    let Streamed { error, reply, .. } = trial.streamed().await?;
    holds(error.is_none() && reply.finish_reason == Some(FinishReason::ToolCalls), || {
        format!("{:?}, {error:?}", reply.finish_reason)
    })?;
    let call = |id: &str, city: &str| {
        let arguments = format!("{{\"city\":\"{city}\"}}");
        let function = FunctionCall { name: "get_weather".into(), arguments, ..FunctionCall::default() };
        ToolCall { id: id.into(), kind: "function".into(), function, ..ToolCall::default() }
    };
    let wanted = [call("call_paris", "Paris"), call("call_rome", "Rome")];
    holds(reply.tool_calls == wanted, || format!("{:?}", reply.tool_calls))
}

pub(super) async fn ragged(trial: &Trial<'_>) -> Seen {
    says(&trial.streamed().await?, "Grüße, 世界 🌍")
}

pub(super) async fn hangs(trial: &Trial<'_>) -> Seen {
    let (server, llm) = trial.begins().await;
    let Err(error) = llm.chat("?").await else { return Err("an answer".into()) };
    is_kind(&error, Kind::Timeout)?;
    closes(&server).await
}

pub(super) async fn stalls(trial: &Trial<'_>) -> Seen {
    let (server, llm) = trial.begins().await;
    is_kind(&half(streams(&llm).await?)?, Kind::Timeout)?;
    closes(&server).await
}

pub(super) async fn is_left(trial: &Trial<'_>) -> Seen {
    let mut best = Duration::MAX;
    for _ in 0..5 {
        let (server, llm) = trial.begins().await;
        let mut stream = llm.stream("?").await.map_err(told)?;
        let first = stream.next_text().await.map_err(told)?;
        holds(first.as_deref() == Some("half"), || format!("it begins with {first:?}"))?;
        let since = Instant::now();
        drop(stream);
        closes(&server).await?;
        best = best.min(since.elapsed()); // a busy machine may be late, but not always
    }
    holds(best < Duration::from_millis(50), || format!("the connection stays open for {best:?}"))
}

pub(super) async fn refused(trial: &Trial<'_>) -> Seen {
    let (server, llm) = trial.begins().await;
    let Err(error) = llm.stream("?").await else { return Err("a stream".into()) };
    is_kind(&error, Kind::NotFound)?;
    let told = (error.get_code(), server.requests().len());
    holds(told == (Some("model_not_found"), 1), || format!("the code and the requests {told:?}"))
}

pub(super) async fn whole_for_stream(trial: &Trial<'_>) -> Seen {
    says(&trial.streamed().await?, "fine")
}
