//! `llm config`: where each setting came from, and `.env.example`, which the program writes.
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::program::Program;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The line of a setting, with single spaces.
fn line(out: &str, setting: &str) -> String {
    let line = out.lines().find(|line| line.split(' ').next() == Some(setting));
    line.unwrap_or_else(|| panic!("{setting} is not in\n{out}")).split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn every_setting_says_where_it_came_from() {
    let program = Program::new()
        .var("VLLM_BASE_URL", "http://gpu:8000")
        .var("LLM_MAX_RETRIES", "5")
        .var("LLM_LISTEN", "127.0.0.1:9999")
        .file(".env", "# ours\nVLLM_TEXT_MODEL=coder\nVLLM_API_KEY=s3cret\n");
    let out = program.run(&["config"]).out;
    for (setting, rest) in [
        ("default_model", "coder VLLM_TEXT_MODEL, .env line 2"),
        ("models.coder.base_url", "http://gpu:8000 VLLM_BASE_URL, environment"),
        ("models.coder.provider", "vllm VLLM_BASE_URL, environment"),
        ("models.coder.api_key", "(set) VLLM_API_KEY, .env line 3"),
        ("retry.max_retries", "5 LLM_MAX_RETRIES, environment"),
        ("queue.waiting", "100 default"),
        ("queue.limit", "what the deployments can, 1024 for hosts default"),
        ("retry.wait_ms", "500 default"),
        ("retry.budget", "0.2 default"),
        ("timeout.first_s", "600 default"),
        ("timeout.idle_s", "120 default"),
        ("health.start_timeout_s", "600 default"),
        ("health.canary", "for servers of one's own default"),
        ("models.coder.connect_timeout_ms", "5000 default"),
        ("server.max_body", "33554432 default"),
        ("server.shutdown_timeout_s", "60 default"),
        ("server.listen", "127.0.0.1:9999 LLM_LISTEN, environment"),
        ("server.api_key", "(not set) default"),
        ("server.log", "stderr default"),
    ] {
        assert_eq!(line(&out, setting), format!("{setting} {rest}"));
    }
    assert!(!out.contains("s3cret"), "{out}");
}

#[test]
fn settings_of_a_file_have_their_line_and_variables_go_before_them() {
    let text = "[server]\nthreads = 3\nlisten = '127.0.0.1:1'\n[retry]\nmax_retries = 1\nwait_ms = 7\n[models.a]\nprovider = 'fake'\n";
    let program = Program::configured(text).var("LLM_MAX_RETRIES", "5").var("LLM_LISTEN", "8001");
    let out = program.run(&["config", "--json"]).out;
    let all: Value = serde_json::from_str(&out).unwrap();
    let find = |setting: &str| {
        let found = all.as_array().unwrap().iter().find(|s| s["setting"] == setting).expect(setting);
        let from = found["from"].as_str().unwrap();
        (found["value"].clone(), from.rsplit('/').next().unwrap().to_owned())
    };
    assert_eq!(find("server.threads"), (3.into(), "llm.toml line 2".into()));
    assert_eq!(find("models.a.provider"), ("fake".into(), "llm.toml line 8".into()));
    assert_eq!(find("retry.wait_ms"), (7.into(), "llm.toml line 6".into()));
    assert_eq!(find("retry.max_retries"), (5.into(), "LLM_MAX_RETRIES, environment".into()));
    assert_eq!(find("server.listen").1, "LLM_LISTEN, environment");
}

#[test]
fn a_provider_that_there_is_not_is_told_with_its_variable_and_those_there_are() {
    let ran = Program::new().var("AI_PROVIDER", "vlm").run(&["hello"]);
    assert_eq!(ran.code, 2, "{ran:?}");
    assert!(ran.err.contains("AI_PROVIDER: no such provider: vlm; there are "), "{}", ran.err);
    assert!(ran.err.contains("vllm") && ran.err.contains("openai"), "{}", ran.err);
}

#[cfg(feature = "engine")]
#[test]
fn the_example_of_a_dot_env_file_is_what_the_program_prints() {
    let printed = Program::new().run(&["config", "--env-example"]).out;
    let path = root().join(".env.example");
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&path, &printed).unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(kept == printed, "{} is stale; BLESS=1 writes it anew", path.display());
}

#[test]
fn a_user_may_take_the_comments_away_one_by_one() {
    let printed = Program::new().run(&["config", "--env-example"]).out;
    let untouched = Program::new().file(".env", &printed);
    assert_eq!(untouched.run(&["config"]).out, Program::new().run(&["config"]).out, "as it comes, it sets nothing");
    let is_variable =
        |line: &&str| line.strip_prefix('#').is_some_and(|line| line.starts_with(|c: char| c.is_uppercase()));
    let set: String = printed.lines().filter(is_variable).map(|line| format!("{}\n", &line[1..])).collect();
    assert!(set.lines().count() > 50, "{set}");
    let ran = Program::new().file(".env", &set).var("AI_PROVIDER", "fake").run(&["config"]);
    assert_eq!(ran.code, 0, "{ran:?}");
}

/// The table is the only place that knows variables: what the sources ask for is in it.
#[cfg(feature = "engine")]
#[test]
fn every_variable_that_the_sources_name_is_explained() {
    let printed = Program::new().run(&["config", "--env-example"]).out;
    let mut named = 0;
    for source in sources(&root().join("crates")) {
        for word in
            source.split('"').skip(1).step_by(2).filter(|word| word.starts_with("LLM_") && !word.contains("TEST"))
        {
            let name = word.strip_suffix("_FILE").unwrap_or(word);
            let is_name = name.len() > 4 && name.chars().all(|c| c.is_ascii_uppercase() || c == '_');
            assert!(!is_name || printed.contains(&format!("\n#{name}=")), "{name} is explained nowhere");
            named += usize::from(is_name);
        }
    }
    assert!(named > 10, "the sources were read");
}

/// The texts of all programs' sources, without their tests.
fn sources(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let text = |path: PathBuf| match path.extension().and_then(|e| e.to_str()) {
        _ if path.is_dir() && !path.ends_with("tests") => sources(&path),
        Some("rs") => {
            let text = std::fs::read_to_string(&path).unwrap();
            vec![text.split("#[cfg(test)]").next().unwrap().to_owned()]
        }
        _ => Vec::new(),
    };
    entries.flat_map(text).collect()
}
