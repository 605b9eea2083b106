//! Asking, which is what `llm` does unless a command is named.
mod prompt;
mod stats;

use clap::{ArgMatches, Args, FromArgMatches};
use llm_core::{ChatReply, ChatRequest, Event, FinishReason, Llm, Operation};
use serde_json::{Value, json};

use crate::args;
use crate::engine;
use crate::exit::Exit;
use crate::house::{House, Source};
use crate::output::Output;
use crate::stop::{Run, Stop};
use crate::talk;
use stats::Stats;

/// The question and how to answer it.
#[derive(Debug, Args)]
pub(crate) struct Ask {
    /// The question; what is piped in follows it
    #[arg(value_name = "PROMPT")]
    pub(crate) words: Vec<String>,
    #[command(flatten)]
    wish: Wish,
    #[command(flatten)]
    show: Show,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "How to answer")]
struct Wish {
    /// Instructions: 'You are terse'
    #[arg(short, long, value_name = "TEXT")]
    system: Option<String>,
    /// 0 always takes the likeliest word, 2 is the wildest
    #[arg(long, visible_alias = "temperature", value_name = "0..2")]
    temp: Option<f32>,
    /// At most so many tokens
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    max_tokens: Option<u32>,
    /// The same seed gives the same answer
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// End before this text; may be given several times
    #[arg(long, value_name = "TEXT")]
    stop: Vec<String>,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "How to show it")]
struct Show {
    /// Show the answer when it is complete
    #[arg(long)]
    no_stream: bool,
    /// Show the answer as one JSON object
    #[arg(long)]
    json: bool,
    /// Tell tokens and speed on stderr
    #[arg(long)]
    stats: bool,
    /// An answer cut by its token limit is a failure (exit code 5)
    #[arg(long)]
    fail_on_length: bool,
}

/// Asks and shows the answer.
pub(crate) async fn run(matches: &ArgMatches) -> Run {
    let (ask, source) = (parsed::<Ask>(matches), parsed::<Source>(matches));
    if let Some(command) = args::nearly(&ask.words) {
        talk::note(&format!("asking the model; the command is `llm {command}`"));
    }
    let question = prompt::prompt(&ask.words).await?;
    let house = House::read(&source)?;
    let llm = house.llm()?;
    let model = source.model.unwrap_or_default();
    engine::ready(&llm, &model, Operation::Chat).await?;
    let request = ask.wish.request(question).model(&model);
    answer(&llm, request, &ask.show).await.map_err(|stop| house.tell_place(stop, &model))
}

/// What clap has checked already cannot fail to be read.
pub(crate) fn parsed<A: FromArgMatches>(matches: &ArgMatches) -> A {
    A::from_arg_matches(matches).unwrap_or_else(|error| error.exit())
}

impl Wish {
    fn request(&self, question: String) -> ChatRequest {
        let mut request = ChatRequest::new(question);
        if let Some(text) = &self.system {
            request = request.system(text);
        }
        let sampling = &mut request.sampling;
        (sampling.temperature, sampling.max_tokens, sampling.seed) = (self.temp, self.max_tokens, self.seed);
        sampling.stop = self.stop.clone();
        request
    }
}

async fn answer(llm: &Llm, request: ChatRequest, show: &Show) -> Run {
    let (mut out, mut stats) = (Output::new(), Stats::start());
    let model = request.model.clone();
    let reply = match show.no_stream || show.json {
        true => whole(llm, request, &mut stats, show, &mut out, &model).await?,
        false => streamed(llm, request, &mut stats, &mut out).await?,
    };
    reply.warnings.iter().for_each(|warning| talk::warn(warning));
    if show.stats {
        talk::note(&stats.line(&reply));
    }
    judge(&reply, show)
}

async fn whole(
    llm: &Llm,
    request: ChatRequest,
    stats: &mut Stats,
    show: &Show,
    out: &mut Output,
    model: &str,
) -> Run<ChatReply> {
    let reply = llm.chat(request).await?;
    stats.piece();
    match show.json {
        true => out.line(&object(model, &reply).to_string()).await?,
        false => {
            out.write(&reply.text).await?;
            out.end().await?;
        }
    }
    Ok(reply)
}

async fn streamed(llm: &Llm, request: ChatRequest, stats: &mut Stats, out: &mut Output) -> Run<ChatReply> {
    let mut stream = llm.stream(request).await?;
    let mut thinks = false;
    loop {
        let event = match stream.next().await {
            Ok(event) => event,
            Err(error) => return Err(broke_off(error, stream.so_far(), out).await),
        };
        stats.piece();
        match event {
            Some(Event::Reasoning(piece)) => {
                talk::think(&piece);
                thinks = true;
            }
            Some(Event::Text(piece)) => {
                if std::mem::take(&mut thinks) {
                    talk::note("");
                }
                out.write(&piece).await?;
            }
            Some(_) => {}
            None => break,
        }
    }
    out.end().await?;
    Ok(stream.so_far().clone())
}

/// What was shown already is half an answer, whatever broke it off.
async fn broke_off(error: llm_core::Error, so_far: &ChatReply, out: &mut Output) -> Stop {
    let _ = out.end().await; // the error is said below the half line, not behind it
    match so_far.text.is_empty() {
        true => error.into(),
        false => Stop::from(error).with_exit(Exit::Incomplete),
    }
}

fn object(model: &str, reply: &ChatReply) -> Value {
    json!({
        "model": if model.is_empty() { Value::Null } else { model.into() },
        "text": reply.text,
        "reasoning": if reply.reasoning.is_empty() { Value::Null } else { reply.reasoning.clone().into() },
        "tool_calls": reply.tool_calls,
        "finish_reason": reply.finish_reason.as_ref().map(FinishReason::as_str),
        "usage": reply.usage,
        "warnings": reply.warnings,
    })
}

/// How it ended, said where the reader would not see it.
fn judge(reply: &ChatReply, show: &Show) -> Run {
    match &reply.finish_reason {
        Some(FinishReason::Length) => {
            talk::warn("the answer was cut: it reached --max-tokens or filled the context window");
            if show.fail_on_length { Err(Stop::silent(Exit::Incomplete)) } else { Ok(()) }
        }
        Some(FinishReason::ContentFilter) => {
            talk::warn("a filter of the server's cut the answer");
            Ok(())
        }
        _ => Ok(()),
    }
}
