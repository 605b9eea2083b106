//! `llm serve`: the same models for other programs, as an OpenAI-compatible server in this process.
use clap::{ArgMatches, Args};
use llm_core::gateway::dotenv::Environment;
use llm_server::{Reload, Server, key};

use super::Command;
use crate::ask::parsed;
use crate::engine;
use crate::house::{House, Source};
use crate::stop::Run;
use crate::talk;

pub(super) const SERVE: Command = Command {
    name: "serve",
    about: "Serve the models over HTTP, as OpenAI's API",
    args: |command| Serve::augment_args(command).after_help(EXAMPLES),
    run,
};

const EXAMPLES: &str = "\
Examples:
  llm serve
  llm serve --listen 0.0.0.0:8000 --config llm.toml
  VLLM_BASE_URL=http://gpu:8000 llm serve --listen 8080

Clients that are not on this machine need a key: LLM_API_KEY, LLM_API_KEY_FILE, or one that is made and told once.";

#[derive(Debug, Args)]
struct Serve {
    /// Where the API listens: 8000, 0.0.0.0:8000 [default: 127.0.0.1:8000]
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<String>,
    /// Where metrics alone listen, or `off` [default: 127.0.0.1:9090]
    #[arg(long, value_name = "ADDRESS")]
    metrics: Option<String>,
}

fn run(matches: &ArgMatches) -> Run {
    let (serve, source) = (parsed::<Serve>(matches), parsed::<Source>(matches));
    let options = [("LLM_LISTEN", serve.listen), ("LLM_METRICS_LISTEN", serve.metrics)];
    let house = House::read_with(&source, &options)?;
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_max_level(tracing_subscriber::filter::LevelFilter::INFO)
        .init();
    let environment = Environment::of_process()?;
    let key_file = key::file(&|name| environment.get(name));
    let (server, new_key) = house.composed.start(&engine::kinds(), key_file.as_deref())?;
    if let (Some(key), Some(file)) = (new_key, key_file) {
        talk::note(&format!("the key that clients must send, told only now and kept in {}:", file.display()));
        talk::note(&key);
    }
    let file =
        source.config.clone().or_else(|| environment.get("LLM_CONFIG").filter(|f| !f.is_empty()).map(Into::into));
    let files = file.into_iter().chain(server.files()).collect();
    let again = move || House::read_with(&source, &options).map(|house| house.composed).map_err(|stop| stop.says);
    Ok(llm_server::until_signal(server, Reload::new(files, again), greet)?)
}

fn greet(server: &Server) {
    talk::note(&format!("listening on {0}; ask: llm --url {0} \"hello\"", server.url()));
    if let Some(address) = server.metrics {
        talk::note(&format!("metrics on http://{address}/metrics"));
    }
}
