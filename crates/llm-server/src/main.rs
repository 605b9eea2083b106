//! The thin door for containers: reads the environment, serves, and ends when it is told to.
use std::path::PathBuf;
use std::process::ExitCode;

use llm_core::gateway::dotenv::Environment;
use llm_server::compose::{self, Composed};
use llm_server::{Reload, key};

/// Calls are many small allocations on a few threads: with 64 connections it saves a tenth of the CPU.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const HELP: &str = "llm-server: an OpenAI-compatible gateway in front of vLLM and other hosts

usage: llm-server [--config FILE] [--listen ADDRESS]

Without a file the environment says all: VLLM_BASE_URL, AI_PROVIDER, .. and for the server itself LLM_LISTEN
(127.0.0.1:8000), LLM_METRICS_LISTEN (127.0.0.1:9090), LLM_API_KEY or LLM_API_KEY_FILE, LLM_LOG (stderr), LLM_THREADS.
";

fn main() -> ExitCode {
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_max_level(tracing::Level::INFO).init();
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("llm-server: {error}");
            ExitCode::from(if error.kind() == llm_core::Kind::Config { 2 } else { 1 })
        }
    }
}

fn run() -> llm_core::Result<()> {
    let Some(arguments) = Arguments::read(std::env::args().skip(1))? else {
        print!("{HELP}");
        return Ok(());
    };
    let (composed, file, key_file) = read(&arguments)?;
    let (server, new_key) = composed.start(KINDS, key_file.as_deref())?;
    if let (Some(key), Some(file)) = (new_key, key_file) {
        eprintln!("the key that clients must send, told only now and kept in {}: {key}", file.display());
    }
    let again = move || read(&arguments).map(|(composed, ..)| composed).map_err(|error| error.to_string());
    let files = file.into_iter().chain(server.files()).collect();
    llm_server::until_signal(server, Reload::new(files, again), |server| eprintln!("listening on {}", server.url()))
}

/// The configuration, the file it stands in if there is one, and the place for a key of the server's own making.
fn read(arguments: &Arguments) -> llm_core::Result<(Composed, Option<PathBuf>, Option<PathBuf>)> {
    let environment = Environment::of_process()?;
    let lookup = |name: &str| match (name, &arguments.listen) {
        ("LLM_LISTEN", Some(listen)) => Some(listen.clone()),
        _ => environment.get(name),
    };
    let file = arguments.config.clone().or_else(|| lookup("LLM_CONFIG").filter(|f| !f.is_empty())).map(PathBuf::from);
    Ok((compose::read(file.as_deref(), &lookup)?, file, key::file(&lookup)))
}

#[cfg(feature = "engine")]
const KINDS: &[llm_core::provider::Kind] = &[llm_engine::KIND];
#[cfg(not(feature = "engine"))]
const KINDS: &[llm_core::provider::Kind] = &[];

struct Arguments {
    config: Option<String>,
    listen: Option<String>,
}

impl Arguments {
    /// `None` asks for help.
    fn read(mut words: impl Iterator<Item = String>) -> llm_core::Result<Option<Arguments>> {
        let mut arguments = Arguments { config: None, listen: None };
        while let Some(word) = words.next() {
            let place = match word.as_str() {
                "-h" | "--help" => return Ok(None),
                "--config" => &mut arguments.config,
                "--listen" => &mut arguments.listen,
                other => {
                    return Err(llm_core::Error::config(format!("no such argument: {other}; see llm-server --help")));
                }
            };
            *place = Some(words.next().ok_or_else(|| llm_core::Error::config(format!("{word} needs a value")))?);
        }
        Ok(Some(arguments))
    }
}
