//! The examples do what they say, with the provider that repeats the question.
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::commands::serving;
use crate::program::{Program, Ran, ran};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Cargo builds examples with all other tests, beside the program.
fn run(name: &str) -> Ran {
    let program = Path::new(env!("CARGO_BIN_EXE_llm")).parent().unwrap().join("examples").join(name);
    assert!(program.exists(), "{name} is not built: cargo test --workspace --examples --no-run");
    let mut command = Command::new(program);
    let home = Program::fake();
    home.dress(&mut command);
    ran(command.spawn().unwrap())
}

#[test]
fn each_example_prints_what_it_is_about() {
    let said = [
        ("01_chat", "What is the capital of France?\nName three colours.\n3 tokens read, 3 made, ended by stop\n"),
        ("02_stream", "Tell me a story about a lighthouse.\nWhat is two and two?\nended by stop\n"),
        ("04_own_provider", "?was I tac a ro rac a ti saW\n"),
        ("06_tools", "Do I need an umbrella in Paris?\n2 messages, 7 tokens made\n"),
    ];
    for (name, said) in said {
        let ran = run(name);
        assert_eq!((ran.code, ran.out.as_str()), (0, said), "{name}: {}", ran.err);
    }
}

#[test]
fn the_nearest_sentence_stands_first() {
    let out = run("03_embed").out;
    let likeness = |line: &str| line.split_whitespace().next().unwrap().parse::<f32>().unwrap();
    let ranked: Vec<_> = out.lines().map(likeness).collect();
    assert!(ranked.len() == 3 && ranked.is_sorted_by(|a, b| a >= b), "{out}");
}

#[test]
fn the_configuration_falls_back_and_tells_where_it_is_wrong() {
    let out = run("05_config").out;
    assert!(out.starts_with("I step in.\nI step in.\n"), "{out}");
    assert!(out.trim_end().lines().last().unwrap().starts_with("models.x.provider: "), "{out}");
}

#[test]
fn the_script_asks_a_running_server_with_curl_alone() {
    let house = Program::fake().var("LLM_LOG", "off").var("LLM_API_KEY", "s3cret");
    let (mut child, url) = serving(house.command(&["serve", "--listen", "127.0.0.1:0", "--metrics", "off"]));
    let mut script = Command::new(root().join("examples/07_curl.sh"));
    house.dress(&mut script);
    let ran = ran(script.args([&url, "s3cret"]).spawn().unwrap());
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(ran.code, 0, "{}", ran.err);
    for piece in ["\"status\":\"ok\"", "What is the capital of France?", "data: [DONE]", "\"embedding\"", "\"count\":3"]
    {
        assert!(ran.out.contains(piece), "{piece}: {}", ran.out);
    }
}

#[test]
fn every_example_is_listed_short_and_run_here() {
    let manifest = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml")).unwrap();
    let here = include_str!("examples.rs");
    for file in std::fs::read_dir(root().join("examples")).unwrap().map(|entry| entry.unwrap().path()) {
        let name = file.file_stem().unwrap().to_str().unwrap().to_owned();
        let text = std::fs::read_to_string(&file).unwrap();
        assert!(text.lines().count() <= 40, "{name} is too long");
        assert!(here.contains(&name), "{name} is not run");
        if file.extension().is_some_and(|extension| extension == "rs") {
            assert!(manifest.contains(&format!("name = \"{name}\"")), "{name} is no example of this crate");
        }
    }
}
