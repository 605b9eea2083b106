//! The binary for containers as a container runs it: its help, its mistakes, a question, and its end.
#![cfg(unix)]
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use llm_core::secret::Secret;
use llm_server::keys::Entry;
use tempfile::TempDir;

const SOON: Duration = Duration::from_secs(60);

/// In an empty folder and with an environment of the test's own.
fn command(folder: &TempDir, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_llm-server"));
    command.args(arguments).env_clear().current_dir(folder.path()).stdin(Stdio::null());
    command.env("AI_PROVIDER", "fake").env("LLM_METRICS_LISTEN", "off").env("LLM_LOG", "off");
    command.env("HOME", folder.path()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn ran(arguments: &[&str]) -> (Option<i32>, String, String) {
    let folder = tempfile::tempdir().unwrap();
    let Output { status, stdout, stderr } = command(&folder, arguments).output().unwrap();
    (status.code(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

/// What a server says to this, to the end of the connection.
fn asked(address: &str, request: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut said = String::new();
    stream.read_to_string(&mut said).unwrap();
    said
}

/// A server that runs, and where it listens.
fn serving(folder: &TempDir, arguments: &[&str]) -> (Child, String) {
    let arguments = [&["--listen", "127.0.0.1:0"], arguments].concat();
    let mut child = command(folder, &arguments).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
    let address = lines.find_map(|line| line.strip_prefix("listening on http://").map(str::to_owned));
    let address = address.expect("it says where it listens");
    std::thread::spawn(move || lines.count()); // so that its pipe never fills
    (child, address)
}

fn told_to_end(child: &Child) {
    // The shell has its own `kill`, wherever it runs.
    let sent = Command::new("sh").args(["-c", "kill -s TERM \"$0\"", &child.id().to_string()]).status().unwrap();
    assert!(sent.success());
}

fn ended(child: &mut Child) -> Option<i32> {
    let since = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status.code();
        }
        if since.elapsed() > SOON {
            child.kill().unwrap();
            panic!("it still runs");
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn help_names_its_arguments_and_a_wrong_one_is_two() {
    let (code, out, err) = ran(&["--help"]);
    assert_eq!((code, err.as_str()), (Some(0), ""));
    assert!(out.contains("--config FILE") && out.contains("--listen ADDRESS"), "{out}");
    for (wrong, says) in [
        (&["--listn", "8000"][..], "no such argument: --listn"),
        (&["--listen"], "--listen needs a value"),
        (&["--listen", "nowhere"], "LLM_LISTEN: \"nowhere\" is no address"),
        (&["--config", "/no/such.toml"], "cannot read /no/such.toml"),
    ] {
        let (code, out, err) = ran(wrong);
        assert_eq!((code, out.as_str()), (Some(2), ""), "{wrong:?}: {err}");
        assert!(err.contains(says), "{wrong:?}: {err}");
    }
}

#[test]
fn it_serves_until_it_is_told_to_end_and_ends_well() {
    let folder = tempfile::tempdir().unwrap();
    let (mut child, address) = serving(&folder, &[]);
    let body = r#"{"model":"fake","messages":[{"role":"user","content":"hello there"}]}"#;
    let head = "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length:";
    let said = asked(&address, &format!("{head} {}\r\n\r\n{body}", body.len()));
    assert!(said.starts_with("HTTP/1.1 200") && said.contains("hello there"), "{said}");
    let health = asked(&address, "GET /health HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    assert!(health.starts_with("HTTP/1.1 200"), "{health}");
    told_to_end(&child);
    assert_eq!(ended(&mut child), Some(0));
}

#[test]
fn a_file_of_keys_that_has_changed_is_read_anew_without_being_told() {
    let folder = tempfile::tempdir().unwrap();
    let ((old, first), (new, second)) = (Entry::new("alice").unwrap(), Entry::new("alice").unwrap());
    let write = |entry: &Entry| std::fs::write(folder.path().join("keys.toml"), entry.toml()).unwrap();
    write(&first);
    std::fs::write(folder.path().join("llm.toml"), "[server]\nkeys = 'keys.toml'\n").unwrap();
    let (mut child, address) = serving(&folder, &["--config", "llm.toml"]);
    let status = |key: &Secret| {
        let key = key.reveal();
        let said = asked(
            &address,
            &format!("GET /v1/models HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\nconnection: close\r\n\r\n"),
        );
        said.split(' ').nth(1).unwrap().to_owned()
    };
    assert_eq!((status(&old).as_str(), status(&new).as_str()), ("200", "401"));
    write(&second);
    let since = Instant::now();
    while status(&new) != "200" {
        assert!(since.elapsed() < SOON, "it is not read");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(status(&old), "401");
    told_to_end(&child);
    assert_eq!(ended(&mut child), Some(0));
}
