//! The README cannot rot: every shell command in it is run, every setting read, every link followed.
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use llm_tests::upstream::Upstream;

use crate::program::{Program, ran};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn readme() -> String {
    std::fs::read_to_string(root().join("README.md")).unwrap()
}

/// The text of all blocks in this language.
fn blocks(language: &str) -> Vec<String> {
    let (text, fence) = (readme(), format!("```{language}\n"));
    let after = text.split(&fence).skip(1);
    after.map(|rest| rest.split("```").next().unwrap().to_owned()).collect()
}

/// One after the other as a reader would, with the provider that repeats the question, and a stand-in for the vLLM.
#[tokio::test(flavor = "multi_thread")]
async fn every_shell_command_works() {
    let vllm = Upstream::start().await.unwrap();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    // Left set, the provider of this test would go before the reader's vLLM.
    let to_vllm = format!("AI_PROVIDER= VLLM_BASE_URL={}", vllm.url());
    let script = blocks("sh").concat().replace("VLLM_BASE_URL=http://gpu:8000", &to_vllm);
    let script = script.replace("localhost:8000", &format!("localhost:{port}"));
    assert!(script.contains("llm \"") && script.contains("curl "), "the README has no tour");

    let program = Program::fake()
        .var("LLM_LISTEN", &format!("127.0.0.1:{port}"))
        .var("LLM_METRICS_LISTEN", "off")
        .var("LLM_LOG", "off")
        .file("README.md", &readme())
        .file("script.sh", &format!("set -euo pipefail\ntrap 'kill $(jobs -p) 2>/dev/null || true' EXIT\n{script}"))
        .file("changed.txt", "before\n");
    run(&program, "git init -q . && git add changed.txt && echo after > changed.txt");
    run(&program, "bash script.sh");
    assert_eq!(vllm.seen().now().arrived, 1, "the question reached the vLLM, and once");
}

fn run(program: &Program, line: &str) {
    let mut command = Command::new("bash");
    program.dress(&mut command);
    let ran = ran(command.args(["-c", line]).stdin(Stdio::null()).spawn().unwrap());
    assert_eq!(ran.code, 0, "{line}\n{}\n{}", ran.out, ran.err);
}

#[test]
fn every_setting_is_one() {
    for block in blocks("toml") {
        llm_core::Config::from_toml(&block).unwrap();
    }
    assert!(!blocks("toml").is_empty());
}

#[test]
fn every_link_leads_somewhere() {
    let text = readme();
    let targets = text.split("](").skip(1).map(|rest| rest.split(')').next().unwrap());
    for target in targets.filter(|target| !target.contains("://") && !target.starts_with('#')) {
        assert!(root().join(target).exists(), "{target} is not there");
    }
}
