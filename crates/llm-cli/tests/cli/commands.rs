//! The commands: what they print, for people and for programs.
use std::io::{BufRead, BufReader};
use std::process::Command;

use serde_json::Value;

use crate::program::{Program, ended, signal};

#[test]
fn each_text_becomes_one_line_with_a_vector() {
    let program = Program::fake();
    let vectors = |out: &str| out.lines().map(|l| serde_json::from_str(l).unwrap()).collect::<Vec<Vec<f32>>>();
    let given = vectors(&program.run(&["embed", "a red apple", "a green pear"]).out);
    let piped = vectors(&program.run_with(b"a red apple\n\na green pear\n", &["embed"]).out);
    assert!(given.len() == 2 && given[0].len() == 8 && given == piped);
}

#[test]
fn more_texts_than_are_sent_at_once_keep_their_order() {
    let lines: Vec<String> = (0..150).map(|i| format!("word{i}")).collect();
    let program = Program::configured("[models.e]\nprovider = 'fake'\nvector_len = 997");
    let all = program.run_with(lines.join("\n").as_bytes(), &["embed"]).out;
    assert_eq!(all.lines().count(), 150);
    for i in [0, 63, 64, 149] {
        assert_eq!(Some(program.run(&["embed", &lines[i]]).out.trim_end()), all.lines().nth(i), "{i}");
    }
}

#[test]
fn vectors_come_in_openais_shape_too() {
    let out = Program::fake().run(&["embed", "--json", "a b", "c"]).out;
    let object: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((&object["data"][1]["index"], &object["usage"]["prompt_tokens"]), (&1.into(), &3.into()));
}

#[test]
fn tokens_are_counted_and_listed() {
    let program = Program::fake();
    assert_eq!(program.run(&["tokens", "one two", "three"]).out, "3\n");
    assert_eq!(program.run_with(b"one two\n", &["tokens"]).out, "2\n");
    assert_eq!(program.run(&["tokens", "--ids", "a b"]).out, "0 1\n");
    let object: Value = serde_json::from_str(&program.run(&["tokens", "--json", "a b"]).out).unwrap();
    assert_eq!((&object["count"], &object["max_model_len"]), (&2.into(), &8192.into()));
}

const TWO: &str = "[models.well]\nprovider = 'fake'\naliases = ['w']\n\
                   [models.gone]\nprovider = 'vllm'\nbase_url = 'http://127.0.0.1:1'";

#[test]
fn models_are_listed_with_how_and_where_they_are() {
    let program = Program::configured(TWO);
    let table = program.run(&["models"]).out;
    let line = |name: &str| table.lines().find(|line| line.starts_with(name)).unwrap().to_owned();
    assert!(line("MODEL").contains("STATUS"), "{table}");
    assert!(line("well").contains("ready") && line("well").contains("8192"), "{table}");
    assert!(line("gone").contains("error") && line("gone").contains("http://127.0.0.1:1"), "{table}");
    let list: Value = serde_json::from_str(&program.run(&["models", "--json"]).out).unwrap();
    let well = list.as_array().unwrap().iter().find(|model| model["id"] == "well").unwrap();
    assert_eq!((&well["status"], &well["where"], &well["aliases"][0]), (&"ready".into(), &"fake".into(), &"w".into()));
}

#[test]
fn a_check_says_what_works_and_how_to_mend_the_rest() {
    let ran = Program::configured(TWO).run(&["check"]);
    assert_eq!(ran.code, 3, "{ran:?}");
    assert!(ran.out.contains("ok    well: fake"), "{}", ran.out);
    assert!(ran.out.contains("FAIL  gone: vllm at http://127.0.0.1:1\n      the upstream refuses"), "{}", ran.out);
    assert!(ran.out.contains("\n      start the server"), "{}", ran.out);
    assert_eq!(Program::fake().run(&["check"]).code, 0);
}

#[cfg(feature = "engine")]
#[test]
fn a_file_that_is_no_model_is_told_as_asking_it_would() {
    let program = Program::new().file("bad.gguf", "no model");
    let config = format!("[models.bad]\nprovider = 'engine'\npath = '{}'", program.path("bad.gguf").display());
    let program = program.file("llm.toml", &config).var("LLM_CONFIG", "llm.toml");
    for arguments in [["check"], ["hi"]] {
        let ran = program.run(&arguments);
        assert_eq!(ran.code, 6, "{ran:?}");
        assert!((ran.out + &ran.err).contains("is not a GGUF file"), "{arguments:?}");
    }
}

#[test]
fn a_check_says_where_each_setting_comes_from_and_shows_no_secret() {
    let program = Program::new()
        .var("VLLM_BASE_URL", "http://127.0.0.1:1")
        .file(".env", "# ours\nVLLM_API_KEY=s3cret\nVLLM_BASE_URL=http://elsewhere\n");
    let out = program.run(&["check"]).out;
    assert!(out.contains("VLLM_BASE_URL  http://127.0.0.1:1  (environment)"), "{out}");
    assert!(out.contains("VLLM_API_KEY   (set)  (.env line 2)") && !out.contains("s3cret"), "{out}");
}

#[test]
fn a_wrong_configuration_is_named_with_its_place() {
    let ran = Program::configured("[models.x]\nprovider = 'fake'\nsayz = 'x'").run(&["check"]);
    assert_eq!(ran.code, 2);
    assert!(ran.err.contains(" line 3: models.x.sayz: unknown field `sayz`"), "{}", ran.err);
}

#[test]
fn a_check_names_what_is_wrong_of_the_server_too() {
    for (setting, says) in [
        ("cors = ['x']", " line 2: server.cors: \"x\" is no origin"),
        ("keys = '/no/such.toml'", " line 2: server.keys: /no/such.toml: cannot be read"),
        ("tls_cert = 'cert.pem'", " line 1: server.tls_key: is missing"),
        ("trusted_proxies = ['nginx']", " line 2: server.trusted_proxies: \"nginx\" is no address"),
        ("api_key = ''", " line 2: server.api_key: is empty"),
    ] {
        let ran = Program::configured(&format!("[server]\n{setting}\n[models.x]\nprovider = 'fake'")).run(&["check"]);
        assert_eq!(ran.code, 2, "{setting}: {ran:?}");
        assert!(ran.err.contains(says), "{setting}: {}", ran.err);
    }
}

#[test]
fn completions_know_the_commands() {
    for shell in ["bash", "zsh", "fish"] {
        let out = Program::new().run(&["completions", shell]).out;
        assert!(
            out.contains("models") && out.contains("--fail-on-length") || out.contains("fail-on-length"),
            "{shell}"
        );
    }
}

#[test]
fn a_server_of_the_terminal_answers_the_terminal() {
    let program = Program::fake().var("LLM_LOG", "off");
    let serve = program.command(&["serve", "--listen", "127.0.0.1:0", "--metrics", "off"]);
    let (mut child, url) = serving(serve);
    for (arguments, out) in [(&["--url", &url, "hello"][..], "hello\n"), (&["tokens", "a b", "--url", &url], "2\n")] {
        let ran = Program::new().run(arguments);
        assert_eq!((ran.code, ran.out.as_str()), (0, out), "{}", ran.err);
    }
    assert!(Program::new().run(&["models", "--url", &url]).out.contains("fake"));
    signal(child.id(), "TERM");
    assert_eq!(ended(&mut child), 0);
}

#[test]
#[cfg(target_os = "linux")]
fn a_server_may_open_as_many_files_as_the_machine_allows_and_says_so() {
    let program = Program::fake().var("LLM_LOG", "off");
    let mut serve = Command::new("sh");
    serve.args(["-c", "ulimit -Sn 200 && exec llm serve --listen 127.0.0.1:0 --metrics off"]);
    program.dress(&mut serve);
    let mut child = serve.spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
    let said = lines.find(|line| line.contains("open files")).expect("it says how many");
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", child.id())).unwrap();
    lines.find(|line| line.starts_with("listening on ")).expect("and is there, before it is told to go");
    let (_, files) = limits.split_once("Max open files").unwrap();
    let files: Vec<&str> = files.split_whitespace().take(2).collect();
    assert_eq!(files[0], files[1], "the soft limit is the hard one");
    assert!(said.ends_with(&format!("most={}", files[0])), "{said}");
    signal(child.id(), "TERM");
    std::thread::spawn(move || lines.count());
    assert_eq!(ended(&mut child), 0);
}

/// Starts a server and waits until it says where it listens.
pub(crate) fn serving(mut serve: Command) -> (std::process::Child, String) {
    let mut child = serve.spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
    let said = lines.find(|line| line.starts_with("listening on ")).expect("it says where it listens");
    let url = said["listening on ".len()..].split(';').next().unwrap().to_owned();
    std::thread::spawn(move || lines.count()); // so that its pipe never fills
    (child, url)
}

#[test]
fn a_question_that_names_no_model_goes_to_one_that_can_answer_it() {
    let two = "default_model = 'talks'\n[models.aa]\nprovider = 'fake'\noperations = ['embed']\nvector_len = 3\n\
               [models.talks]\nprovider = 'fake'\noperations = ['chat']";
    let program = Program::configured(two).var("LLM_LOG", "off");
    let (mut child, url) = serving(program.command(&["serve", "--listen", "127.0.0.1:0", "--metrics", "off"]));
    let ran = Program::new().run(&["--url", &url, "hello"]);
    assert_eq!((ran.code, ran.out.as_str()), (0, "hello\n"), "{}", ran.err);
    assert_eq!(Program::new().run(&["embed", "hello", "--url", &url]).out.split(',').count(), 3);
    let models = Program::new().run(&["models", "--url", &url]).out;
    assert!(models.lines().any(|line| line.starts_with("aa ") && !line.contains("chat")), "{models}");
    signal(child.id(), "TERM");
    assert_eq!(ended(&mut child), 0);
}

#[test]
fn a_key_is_told_once_and_its_file_holds_only_its_hash() {
    let ran = Program::new().run(&["keys", "new", "alice"]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    let key = ran.err.split_whitespace().last().unwrap();
    assert!(key.starts_with("sk-") && !ran.out.contains(key), "{ran:?}");
    let file: toml::Table = ran.out.parse().unwrap();
    assert_eq!(file["keys"][0]["name"].as_str(), Some("alice"));
}
