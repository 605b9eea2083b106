//! `llm embed`: texts become vectors.
use clap::{ArgMatches, Args};
use llm_core::{EmbedRequest, Embeddings, Llm, Operation};
use serde::Serialize;

use super::Command;
use crate::ask::parsed;
use crate::exit::Exit;
use crate::house::{House, Source};
use crate::output::Output;
use crate::stop::{Run, Stop};
use crate::{engine, input, runtime};

pub(super) const EMBED: Command = Command {
    name: "embed",
    about: "Turn texts into vectors",
    args: |command| Embed::augment_args(command).after_help(EXAMPLES),
    run: |matches| runtime::block_on(run(matches)),
};

const EXAMPLES: &str = "\
Each text is one argument, or one line of stdin. Each vector is one line of stdout: a JSON array.

Examples:
  llm embed 'a red apple' 'a green pear'
  llm embed < sentences.txt > vectors.jsonl";

/// So many texts are sent at once: enough to keep a model busy, little enough to see the first vectors soon.
const BATCH: usize = 64;

#[derive(Debug, Args)]
struct Embed {
    /// The texts
    #[arg(value_name = "TEXT")]
    texts: Vec<String>,
    /// One JSON object in OpenAI's shape instead of a line per vector
    #[arg(long)]
    json: bool,
}

async fn run(matches: &ArgMatches) -> Run {
    let (embed, source) = (parsed::<Embed>(matches), parsed::<Source>(matches));
    let texts = texts(embed.texts).await?;
    let house = House::read(&source)?;
    let llm = house.llm()?;
    let model = source.model.unwrap_or_default();
    engine::ready(&llm, &model, Operation::Embed).await?;
    let printed = print(&llm, &model, texts, embed.json).await;
    printed.map_err(|stop| house.tell_place(stop, &model))
}

async fn texts(given: Vec<String>) -> Run<Vec<String>> {
    if !given.is_empty() {
        return Ok(given);
    }
    let piped = input::piped().await?.unwrap_or_default();
    let lines: Vec<_> = piped.lines().filter(|line| !line.trim().is_empty()).map(str::to_owned).collect();
    match lines.is_empty() {
        true => Err(Stop::new(Exit::Usage, "there is no text: give texts as arguments or pipe lines in")),
        false => Ok(lines),
    }
}

async fn print(llm: &Llm, model: &str, texts: Vec<String>, as_object: bool) -> Run {
    let (mut out, mut all, mut read) = (Output::new(), Vec::new(), 0);
    for batch in texts.chunks(BATCH) {
        let request = EmbedRequest { model: model.to_owned(), ..EmbedRequest::new(batch) };
        let Embeddings { vectors, usage, .. } = llm.embed(request).await?;
        read += usage.map_or(0, |usage| usage.prompt_tokens);
        match as_object {
            true => all.extend(vectors),
            false => out.write(&lines(&vectors)).await?,
        }
    }
    if as_object { Ok(out.line(&json(&List::of(model, &all, read))).await?) } else { Ok(()) }
}

fn lines(vectors: &[Vec<f32>]) -> String {
    vectors.iter().map(|vector| json(vector) + "\n").collect()
}

/// Not by way of a `Value`, which knows no f32 and would show each number's error in double precision.
fn json(what: &impl Serialize) -> String {
    serde_json::to_string(what).expect("numbers and texts are JSON")
}

/// OpenAI's shape.
#[derive(Serialize)]
struct List<'a> {
    object: &'static str,
    model: &'a str,
    data: Vec<Item<'a>>,
    usage: Cost,
}

#[derive(Serialize)]
struct Item<'a> {
    object: &'static str,
    index: usize,
    embedding: &'a [f32],
}

#[derive(Serialize)]
struct Cost {
    prompt_tokens: u32,
    total_tokens: u32,
}

impl<'a> List<'a> {
    fn of(model: &'a str, vectors: &'a [Vec<f32>], read: u32) -> List<'a> {
        let item = |(index, embedding)| Item { object: "embedding", index, embedding };
        let data = vectors.iter().map(Vec::as_slice).enumerate().map(item).collect();
        List { object: "list", model, data, usage: Cost { prompt_tokens: read, total_tokens: read } }
    }
}
