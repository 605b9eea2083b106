//! `llm tokens`: how many tokens a text has, exactly, as its model counts them.
use clap::{ArgMatches, Args};
use llm_core::{Message, Operation, Prompt, TokenizeRequest, Tokens};

use super::Command;
use crate::ask::parsed;
use crate::house::{House, Source};
use crate::output::Output;
use crate::stop::Run;
use crate::{engine, input, runtime};

pub(super) const TOKENS: Command = Command {
    name: "tokens",
    about: "Count the tokens of a text",
    args: |command| {
        Count::augment_args(command).after_help("Examples:\n  llm tokens 'Hello there'\n  llm tokens < README.md\n  llm tokens --chat 'Hello there'    # as a question, chat template included")
    },
    run: |matches| runtime::block_on(run(matches)),
};

#[derive(Debug, Args)]
struct Count {
    /// The text; by default what is piped in
    #[arg(value_name = "TEXT")]
    words: Vec<String>,
    /// Print the ids instead of their number
    #[arg(long)]
    ids: bool,
    /// Count it as a question, with what the chat template adds
    #[arg(long)]
    chat: bool,
    /// Print one JSON object: count, context window and ids
    #[arg(long, conflicts_with = "ids")]
    json: bool,
}

async fn run(matches: &ArgMatches) -> Run {
    let (count, source) = (parsed::<Count>(matches), parsed::<Source>(matches));
    let text = input::words_or_piped(&count.words).await?;
    let house = House::read(&source)?;
    let llm = house.llm()?;
    let model = source.model.unwrap_or_default();
    engine::ready(&llm, &model, Operation::Tokenize).await?;
    let prompt = if count.chat { Prompt::Chat(vec![Message::user(text)]) } else { Prompt::Text(text) };
    let request = TokenizeRequest { model: model.clone(), prompt, add_special_tokens: true, extra: Default::default() };
    let counted = llm.tokenize(request).await.map_err(|error| house.tell_place(error.into(), &model))?;
    Ok(Output::new().line(&shown(&count, &counted)).await?)
}

fn shown(count: &Count, tokens: &Tokens) -> String {
    match (count.json, count.ids) {
        (true, _) => serde_json::json!(tokens).to_string(),
        (_, true) => tokens.tokens.iter().map(u32::to_string).collect::<Vec<_>>().join(" "),
        _ => tokens.count.to_string(),
    }
}
