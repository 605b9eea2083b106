//! The guide to what does not work quotes real messages: those that can be provoked are, and the others are held to the sources.
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use llm_tests::raw::{Raw, answer};

use crate::program::Program;

/// vLLM's own words, which only one that is set up wrongly says.
const OF_VLLM: &[&str] = &["requires --enable-auto-tool-choice"];

/// What stands between backticks in the first column of each row.
fn quoted(guide: &str) -> Vec<String> {
    let rows = guide.lines().filter(|line| line.starts_with("| `"));
    rows.map(|row| row.split('`').nth(1).unwrap().to_owned()).collect()
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn guide() -> String {
    std::fs::read_to_string(root().join("docs/troubleshooting.md")).unwrap()
}

/// What the program says on stderr before a fake with these settings.
fn faking(settings: &str, arguments: &[&str]) -> String {
    let text = format!("[retry]\nmax_retries = 0\n[models.a]\nprovider = 'fake'\n{settings}");
    Program::configured(&text).run(arguments).err
}

/// What it says before a host that answers so.
async fn before(status: &str, body: &str) -> String {
    let raw = Raw::answering(answer(status, "content-type: application/json\r\n", body)).await;
    Program::before(&raw.url()).run(&["hi"]).err
}

async fn provoked() -> BTreeMap<&'static str, String> {
    let mut said = BTreeMap::from([
        ("the upstream refuses connections: is it running?", Program::before("http://127.0.0.1:1").run(&["hi"]).err),
        ("answers nobody without a key", Program::new().var("AI_PROVIDER", "groq").run(&["hi"]).err),
        ("no such model", faking("", &["-m", "b", "hi"])),
        ("and 1024 are configured", faking("dimensions = 1024\nvector_len = 384", &["embed", "hi"])),
        (
            "models that can",
            faking("operations = ['chat']\n[models.b]\nprovider = 'fake'", &["embed", "-m", "a", "hi"]),
        ),
        ("the answer did not begin in time", faking("first_ms = 60000\ntimeout = { first_s = 0.05 }", &["hi"])),
        (
            "the answer stopped in the middle",
            faking("says = 'a b'\neach_ms = 60000\ntimeout = { idle_s = 0.05 }", &["hi"]),
        ),
        ("the answer broke off before its end", faking("says = 'a b c'\nbreaks_after = 1", &["hi"])),
        ("no such provider", Program::new().var("AI_PROVIDER", "vlm").run(&["hi"]).err),
        ("unknown field", faking("sayz = 'a'", &["hi"])),
    ]);
    said.insert("Unauthorized", before("401 Unauthorized", r#"{"error":"Unauthorized"}"#).await);
    let full = r#"{"error":{"message":"This model's maximum context length is 8 tokens."}}"#;
    said.insert("maximum context length", before("400 Bad Request", full).await);
    said.insert("redirects are not followed", before("302 Found", "{}").await);
    said
}

#[tokio::test(flavor = "multi_thread")]
async fn every_message_of_the_guide_is_one_that_the_program_says() {
    let (guide, said) = (guide(), provoked().await);
    let quoted = quoted(&guide);
    for (message, err) in &said {
        assert!(quoted.iter().any(|quote| quote == message), "{message} is not in the guide");
        assert!(err.contains(message), "{message}: {err}");
    }
    let sources = texts(&root().join("crates"));
    for quote in quoted.iter().filter(|quote| !said.contains_key(quote.as_str())) {
        let words = quote.strip_prefix("x-llm-warning: vllm ").unwrap_or(quote);
        assert!(OF_VLLM.contains(&words) || sources.contains(words), "nobody says `{quote}`");
    }
    assert!(quoted.len() > 25 && said.len() > 10, "the guide was read");
}

/// All sources below a folder, without this crate's own tests.
fn texts(folder: &Path) -> String {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let text = |path: PathBuf| match path.extension().and_then(|e| e.to_str()) {
        _ if path.is_dir() && !path.ends_with("llm-cli/tests") => texts(&path),
        Some("rs") => std::fs::read_to_string(&path).unwrap_or_default(),
        _ => String::new(),
    };
    entries.map(text).collect()
}

#[test]
fn every_command_of_the_guide_is_one_of_ours() {
    let help = Program::new().run(&["--help"]).out;
    for command in guide().split("`llm ").skip(1).filter_map(|rest| rest.split(['`', ' ']).next()) {
        assert!(help.contains(&format!("\n  {command} ")), "llm {command}: {help}");
    }
}
