//! Runs the program as a shell would, in an empty folder and with an environment of the test's own.
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// No test waits longer for anything.
pub(crate) const SOON: Duration = Duration::from_secs(60);

/// The program in a folder that is its home, its data folder and where it was started.
pub(crate) struct Program {
    folder: TempDir,
    variables: Vec<(String, String)>,
}

/// How it ended.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Program {
    pub(crate) fn new() -> Program {
        Program { folder: tempfile::tempdir().unwrap(), variables: Vec::new() }
    }

    /// With the provider that repeats the question.
    pub(crate) fn fake() -> Program {
        Program::new().var("AI_PROVIDER", "fake")
    }

    /// With this configuration file.
    pub(crate) fn configured(toml: &str) -> Program {
        let program = Program::new().file("llm.toml", toml);
        let path = program.path("llm.toml").display().to_string();
        program.var("LLM_CONFIG", &path)
    }

    /// Before one host that is asked once, without retries.
    pub(crate) fn before(url: &str) -> Program {
        let host = format!("[models.tiny]\nprovider = 'vllm'\nbase_url = '{url}'");
        Program::configured(&format!("[retry]\nmax_retries = 0\n{host}"))
    }

    pub(crate) fn var(mut self, name: &str, value: &str) -> Program {
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(crate) fn file(self, name: &str, text: &str) -> Program {
        std::fs::write(self.path(name), text).unwrap();
        self
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The command, for tests that want more than its end.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_llm"));
        command.args(arguments);
        self.dress(&mut command);
        command
    }

    /// Gives any command this environment, with the program in its path.
    pub(crate) fn dress(&self, command: &mut Command) {
        let program = Path::new(env!("CARGO_BIN_EXE_llm")).parent().unwrap().display().to_string();
        let path = format!("{program}:{}", std::env::var("PATH").unwrap_or_default());
        let home = self.folder.path();
        command.env_clear().env("PATH", path).env("HOME", home).env("LLM_DATA_DIR", home).current_dir(home);
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    }

    /// Runs it to its end.
    pub(crate) fn run(&self, arguments: &[&str]) -> Ran {
        ran(self.command(arguments).spawn().unwrap())
    }

    /// Runs it to its end with this piped in.
    pub(crate) fn run_with(&self, input: &[u8], arguments: &[&str]) -> Ran {
        let mut child = self.command(arguments).stdin(Stdio::piped()).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let input = input.to_vec();
        std::thread::spawn(move || stdin.write_all(&input));
        ran(child)
    }
}

/// Waits for its end and takes all it said.
pub(crate) fn ran(mut child: Child) -> Ran {
    let (mut stdout, mut stderr) = (child.stdout.take(), child.stderr.take().unwrap());
    let out = std::thread::spawn(move || stdout.as_mut().map(text).unwrap_or_default());
    let err = std::thread::spawn(move || text(&mut stderr));
    let code = ended(&mut child);
    Ran { code, out: out.join().unwrap(), err: err.join().unwrap() }
}

/// Its exit code, as a shell would tell it.
pub(crate) fn ended(child: &mut Child) -> i32 {
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status.code().unwrap_or(-1);
        }
        if start.elapsed() > SOON {
            child.kill().unwrap();
            panic!("it still runs");
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn text(stream: &mut impl Read) -> String {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    String::from_utf8(bytes).unwrap()
}

/// Sends it a signal. The shell has its own `kill`, wherever it runs.
pub(crate) fn signal(process: u32, name: &str) {
    let sent = Command::new("sh").args(["-c", "kill -s \"$0\" \"$1\"", name, &process.to_string()]).status().unwrap();
    assert!(sent.success());
}
