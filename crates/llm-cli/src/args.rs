//! The command line as a whole: a question, or one of the commands, and the options that all of them have.
use std::fmt::Write;

use clap::parser::ValueSource;
use clap::{ArgMatches, Args, Command};

use crate::ask::Ask;
use crate::commands::COMMANDS;
use crate::exit::{self, Exit};
use crate::house::Source;
use crate::stop::{Run, Stop};

const EXAMPLES: &str = "\
Examples:
  llm \"why is the sky blue?\"
  git diff | llm \"write a commit message\"
  llm < question.txt
  VLLM_BASE_URL=http://gpu:8000 llm -m Qwen/Qwen3-8B \"hello\"
  llm --url http://localhost:8000 \"hello\"

A first word that is a command is the command. To ask about such a word, write
it after --, or in quotes with more words: llm -- serve, llm \"serve what?\"

Models come from --url, --config FILE or LLM_CONFIG, or from variables such as
VLLM_BASE_URL, OPENAI_BASE_URL and AI_PROVIDER, in a .env file too. With none of
them a small model in this process answers; `llm models fetch` brings it.
";

/// All of it.
pub(crate) fn command() -> Command {
    // Afterwards, as deriving takes the types' own comments for what the program is about.
    Source::augment_args(Ask::augment_args(Command::new("llm")))
        .version(env!("CARGO_PKG_VERSION"))
        .about("Ask private models: in this process, on a vLLM, or on any OpenAI-compatible server")
        .override_usage("llm [OPTIONS] [PROMPT]...\n       llm [OPTIONS] COMMAND ...")
        .subcommands(COMMANDS.iter().map(|command| command.clap()))
        .after_help(after_help())
}

fn after_help() -> String {
    let mut text = format!("{EXAMPLES}\nExit codes:\n");
    for (exit, meaning) in exit::TABLE {
        let _ = writeln!(text, "  {:>3}  {meaning}", *exit as u8);
    }
    text
}

/// The command that a single word nearly is: `modles` is a question, and hardly meant as one.
pub(crate) fn nearly(words: &[String]) -> Option<&'static str> {
    let [word] = words else { return None };
    let names = COMMANDS.iter().map(|command| command.name);
    names.max_by(|a, b| likeness(word, a).total_cmp(&likeness(word, b))).filter(|name| likeness(word, name) > 0.8)
}

fn likeness(word: &str, name: &str) -> f64 {
    strsim::normalized_damerau_levenshtein(word, name)
}

/// Words or options of a question before a command: the user meant one of the two, and only the user knows which.
pub(crate) fn refuse_mixture(matches: &ArgMatches, name: &str) -> Run {
    let ask = Ask::augment_args(Command::new("ask"));
    let given = |id: &str| matches.value_source(id) == Some(ValueSource::CommandLine);
    match ask.get_arguments().find(|arg| given(arg.get_id().as_str())) {
        None => Ok(()),
        Some(arg) => {
            let arg = arg.get_long().map_or("a prompt".to_owned(), |long| format!("--{long}"));
            let message = format!("{arg} belongs to a question, and `{name}` is a command");
            Err(Stop::new(Exit::Usage, message)
                .with_hint(format!("to ask about `{name}`, put the whole question in quotes")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &[&str]) -> (Option<String>, Vec<String>) {
        let matches = command().try_get_matches_from(std::iter::once(&"llm").chain(line)).unwrap();
        let words = crate::ask::parsed::<Ask>(&matches).words;
        (matches.subcommand_name().map(str::to_owned), words)
    }

    #[test]
    fn the_command_line_is_sound() {
        command().debug_assert();
    }

    #[test]
    fn a_first_word_that_is_a_command_is_the_command() {
        assert_eq!(words(&["models"]).0.as_deref(), Some("models"));
        assert_eq!(words(&["--", "models"]), (None, vec!["models".to_owned()]));
        assert_eq!(words(&["models are nice"]), (None, vec!["models are nice".to_owned()]));
        assert_eq!(words(&["explain", "models"]).0, None);
        assert_eq!(words(&["-m", "tiny", "models"]).0.as_deref(), Some("models"));
    }

    #[test]
    fn a_question_and_a_command_do_not_mix() {
        for line in [["--temp", "1", "models"], ["hello", "--json", "models"]] {
            let matches = command().try_get_matches_from(std::iter::once("llm").chain(line)).unwrap();
            let name = matches.subcommand_name().unwrap();
            assert_eq!(refuse_mixture(&matches, name).unwrap_err().exit, Exit::Usage, "{line:?}");
        }
        let matches = command().try_get_matches_from(["llm", "-m", "tiny", "models"]).unwrap();
        assert!(refuse_mixture(&matches, "models").is_ok());
    }

    #[test]
    fn a_word_that_nearly_is_a_command_is_noticed() {
        let nearly = |words: &[&str]| nearly(&words.iter().map(|word| word.to_string()).collect::<Vec<_>>());
        assert_eq!(nearly(&["modles"]), Some("models"));
        assert_eq!(nearly(&["hello"]), None);
        assert_eq!(nearly(&["modles", "fetch"]), None);
    }

    #[test]
    fn the_options_of_all_commands_are_read_before_and_after_the_command() {
        for line in [["llm", "-m", "tiny", "tokens", "x"], ["llm", "tokens", "x", "-m", "tiny"]] {
            let matches = command().try_get_matches_from(line).unwrap();
            let source: Source = crate::ask::parsed(matches.subcommand().unwrap().1);
            assert_eq!(source.model.as_deref(), Some("tiny"));
        }
    }
}
