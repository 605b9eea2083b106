//! `llm embed`: texts become vectors.
use clap::{ArgMatches, Args};
use llm_core::{EmbedRequest, Embeddings, Llm, Operation};
use serde_json::{Value, json};

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
        let Embeddings { vectors, usage } = llm.embed(request).await?;
        read += usage.map_or(0, |usage| usage.prompt_tokens);
        match as_object {
            true => all.extend(vectors),
            false => out.write(&lines(&vectors)).await?,
        }
    }
    if as_object { Ok(out.line(&object(model, &all, read).to_string()).await?) } else { Ok(()) }
}

fn lines(vectors: &[Vec<f32>]) -> String {
    vectors.iter().map(|vector| format!("{}\n", json!(vector))).collect()
}

fn object(model: &str, vectors: &[Vec<f32>], read: u32) -> Value {
    let data = vectors.iter().enumerate();
    let data: Vec<_> = data.map(|(i, v)| json!({"object": "embedding", "index": i, "embedding": v})).collect();
    json!({"object": "list", "model": model, "data": data, "usage": {"prompt_tokens": read, "total_tokens": read}})
}
