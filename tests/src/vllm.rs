//! Real vLLMs on the CPU for tests: two that all tests share, and ones that a test starts for itself and may kill.
//!
//! `make test` starts the shared two once for all test programs and says in the environment where they are; a test
//! program run by hand starts what it needs, once. `scripts/vllm-cpu` does the work, and ends what it started when its
//! standard input closes: when a [`Vllm`] is dropped, and when the test program ends, however it ends.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::OnceLock;
use std::{env, io};

use crate::http;

/// A vLLM that has answered its first question.
pub struct Vllm {
    base_url: String,
    model: String,
    guard: Option<Guard>,
}

/// The process that watches over a vLLM; none for one that `make test` watches over.
struct Guard {
    process: Child,
    stdin: Option<ChildStdin>,
}

impl Vllm {
    /// What a locked one wants to be sent.
    pub const KEY: &str = "sk-of-the-tests";

    /// The shared chat model: `tiny-chat`, which knows that "The capital of France is Paris.", calls tools and counts to 80.
    pub fn chat() -> &'static Vllm {
        static CHAT: OnceLock<Vllm> = OnceLock::new();
        CHAT.get_or_init(|| Vllm::shared("LLM_TEST_VLLM_CHAT_URL", "chat", "tiny-chat"))
    }

    /// The shared embedding model: all-MiniLM-L6-v2 as `minilm`, 384 dimensions.
    pub fn embed() -> &'static Vllm {
        static EMBED: OnceLock<Vllm> = OnceLock::new();
        EMBED.get_or_init(|| Vllm::shared("LLM_TEST_VLLM_EMBED_URL", "embed", "minilm"))
    }

    /// One for this test alone: `chat`, `locked` (the same with [`Vllm::KEY`]), `embed` or `smol` (SmolLM2), with `:PORT` on
    /// that port. It takes a minute.
    /// Tests that use it live in files named `own_vllm_*`: at most two vLLMs run at once, so those wait for the shared two to go.
    pub fn own(kind: &str) -> Vllm {
        start(kind).unwrap_or_else(|error| panic!("vLLM ({kind}) did not start: {error}"))
    }

    fn shared(variable: &str, kind: &str, model: &str) -> Vllm {
        match env::var(variable) {
            Ok(base_url) => Vllm { base_url, model: model.to_owned(), guard: None },
            Err(_) => Vllm::own(kind),
        }
    }

    /// Where its API begins, `/v1` included: what `VLLM_BASE_URL` wants.
    pub fn base_url(&self) -> &str {
        &self.base_url
    }

    /// The name it serves its model under.
    pub fn model(&self) -> &str {
        &self.model
    }

    /// How many requests it works on now, by its own word.
    ///
    /// # Panics
    /// If it does not tell.
    pub fn running(&self) -> usize {
        let (_, metrics) = http::get(&format!("{}/metrics", self.base_url.trim_end_matches("/v1")));
        let line = metrics.lines().find(|line| line.starts_with("vllm:num_requests_running"));
        let number = line.and_then(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
        number.expect("vLLM tells what runs") as usize
    }

    /// Ends it as a crash would: no goodbye, and it is gone when this returns.
    pub fn kill(mut self) {
        self.tell("kill\n");
    }

    /// Kills the process that has its model; its server says so, and ends a moment later.
    pub fn break_engine(&mut self) {
        self.tell("break\n");
    }

    /// Tells it to end what it has begun and to take nothing new.
    pub fn drain(&mut self) {
        self.tell("drain\n");
    }

    fn tell(&mut self, word: &str) {
        if let Some(stdin) = self.guard.as_mut().and_then(|guard| guard.stdin.as_mut()) {
            // A guard that is gone already has nothing left to do.
            let _ = stdin.write_all(word.as_bytes());
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        drop(self.stdin.take());
        // It always ends: what does not go politely within seconds, it kills.
        let _ = self.process.wait();
    }
}

fn start(kind: &str) -> io::Result<Vllm> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/vllm-cpu");
    let mut process =
        Command::new(script).args(["serve", kind]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let stdout = process.stdout.take().expect("asked for as a pipe");
    let guard = Guard { stdin: process.stdin.take(), process };
    let mut ready = String::new();
    // Ends by itself: the script has a deadline, and tells on standard error what went wrong, vLLM's log included.
    BufReader::new(stdout).read_line(&mut ready)?;
    match ready.split_whitespace().collect::<Vec<_>>()[..] {
        ["ready", _, base_url, model] => {
            Ok(Vllm { base_url: base_url.to_owned(), model: model.to_owned(), guard: Some(guard) })
        }
        _ => Err(io::Error::other("its last words stand above")),
    }
}
