//! A server that runs: while its configuration changes, with its log in a file, with a key of its own making.
use std::io::{BufRead, BufReader};
use std::process::{Child, Command};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use futures_util::StreamExt;
use llm_tests::http;
use serde_json::Value;

use crate::program::{Program, SOON, ended, ran, signal};

const ONE: &str = "[models.a]\nprovider = 'fake'\nsays = 'one two three four five'\neach_ms = 100\n";

fn models(url: &str) -> String {
    http::get(&format!("{url}/v1/models")).1
}

fn until(what: &str, is_so: impl Fn() -> bool) {
    let since = Instant::now();
    while !is_so() {
        assert!(since.elapsed() < SOON, "{what}");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

/// Starts a server and waits until it says where it listens; what it says then is gathered too.
fn told(mut serve: Command) -> (Child, String, Arc<Mutex<String>>) {
    let mut child = serve.spawn().unwrap();
    let lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let said = Arc::new(Mutex::new(String::new()));
    let gathered = said.clone();
    std::thread::spawn(move || {
        lines.map_while(Result::ok).for_each(|line| *gathered.lock().unwrap() += &format!("{line}\n"));
    });
    let url = || {
        let said = said.lock().unwrap();
        let address = said.lines().find_map(|line| line.strip_prefix("listening on "))?;
        address.split(';').next().map(str::to_owned)
    };
    until("it says where it listens", || url().is_some());
    let url = url().unwrap();
    (child, url, said)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_changes_is_applied_while_answers_run_and_a_wrong_one_changes_nothing() {
    let program = Program::configured(ONE);
    let write = |text: &str| std::fs::write(program.path("llm.toml"), text).unwrap();
    let (mut child, url, said_to_us) = told(program.command(&["serve", "--listen", "127.0.0.1:0", "--metrics", "off"]));
    let body = r#"{"model":"a","stream":true,"messages":[{"role":"user","content":"?"}]}"#;
    let asked = http::client().post(format!("{url}/v1/chat/completions")).body(body).send().await.unwrap();
    let mut stream = asked.bytes_stream();
    let mut said = stream.next().await.unwrap().unwrap().to_vec();

    write(&format!("{}[models.b]\nprovider = 'fake'\n", ONE.replace("one two", "six seven")));
    until("the new model is there", || models(&url).contains("\"b\""));
    while let Some(more) = stream.next().await {
        said.extend_from_slice(&more.unwrap());
    }
    let said = String::from_utf8(said).unwrap();
    assert!(said.contains("five") && said.ends_with("data: [DONE]\n\n"), "it ends as it began: {said}");

    write(&format!("{ONE}[models.c]\nprovider = 'nobody'\n"));
    let is_told = || http::get(&format!("{url}/metrics")).1.contains("llm_config_last_reload_successful 0");
    until("the mistake is told", is_told);
    assert!(models(&url).contains("\"b\"") && !models(&url).contains("\"c\""));

    // What is wrong of the server's own settings would be found out by the next start, and not before.
    write(&format!("[server]\ncors = ['x']\n{}", ONE.replace("models.a", "models.e")));
    signal(child.id(), "HUP");
    until("the wrong origin is told", || said_to_us.lock().unwrap().contains("server.cors: "));
    assert!(models(&url).contains("\"b\"") && !models(&url).contains("\"e\""));

    // A signal does not wait for the next look.
    write(&ONE.replace("models.a", "models.d"));
    signal(child.id(), "HUP");
    until("the last file holds", || models(&url).contains("\"d\"") && !models(&url).contains("\"b\""));
    signal(child.id(), "TERM");
    assert_eq!(ended(&mut child), 0);
}

const QUESTION: &str = r#"{"model":"fake","messages":[{"role":"user","content":"?"}]}"#;

#[tokio::test(flavor = "multi_thread")]
async fn the_log_in_a_file_has_each_question_by_its_id_and_the_last_one_too() {
    let program = Program::fake();
    let log = program.path("calls.log");
    let program = program.var("LLM_LOG", &log.display().to_string());
    let (mut child, url, _) = told(program.command(&["serve", "--listen", "127.0.0.1:0", "--metrics", "off"]));
    for id in ["first-1", "last-2"] {
        let asked = http::client().post(format!("{url}/v1/chat/completions")).header("x-request-id", id).body(QUESTION);
        assert_eq!(asked.send().await.unwrap().status(), 200);
    }
    signal(child.id(), "TERM");
    assert_eq!(ended(&mut child), 0);
    let text = std::fs::read_to_string(&log).unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
    for id in ["first-1", "last-2"] {
        let of_it: Vec<_> = lines.iter().filter(|line| line["id"] == id).collect();
        assert!(matches!(of_it[..], [line] if line["outcome"] == "finished"), "{id}: {text}");
    }
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_others_can_reach_makes_a_key_tells_it_once_and_opens_for_nothing_else() {
    let program = Program::fake().var("LLM_LOG", "off");
    let start = || {
        let arguments = ["serve", "--listen", "0.0.0.0:0", "--metrics", "127.0.0.1:0"];
        let (child, url, said) = told(program.command(&arguments));
        until("it says where its metrics are", || said.lock().unwrap().contains("metrics on "));
        let said = said.lock().unwrap().clone();
        (child, url.replace("0.0.0.0", "127.0.0.1"), said)
    };
    let status = async |url: &str, key: &str| {
        http::client().get(format!("{url}/v1/models")).bearer_auth(key).send().await.unwrap().status().as_u16()
    };
    let (mut child, url, said) = start();
    let file = program.path("api-key");
    let key = std::fs::read_to_string(&file).unwrap().trim().to_owned();
    assert_eq!(said.matches(&key).count(), 1, "{said}");
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&file).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    let metrics = said.lines().find_map(|line| line.strip_prefix("metrics on ")).unwrap();
    assert_eq!((http::get(metrics).0, http::get(&format!("{url}/metrics")).0), (200, 401));
    assert_eq!((status(&url, &key).await, status(&url, "sk-other").await), (200, 401));
    assert_eq!(http::get(&format!("{url}/v1/models")).0, 401);
    signal(child.id(), "TERM");
    assert_eq!(ended(&mut child), 0);

    let (mut child, url, said) = start();
    assert!(!said.contains(&key) && !said.contains("told only now"), "{said}");
    assert_eq!((status(&url, &key).await, http::get(&format!("{url}/v1/models")).0), (200, 401));
    signal(child.id(), "TERM");
    assert_eq!(ended(&mut child), 0);
}

#[test]
fn a_server_without_a_key_and_without_a_home_says_what_to_set() {
    let program = Program::fake();
    let mut serve = program.command(&["serve", "--listen", "0.0.0.0:0", "--metrics", "off"]);
    let ran = ran(serve.env_remove("HOME").env_remove("LLM_DATA_DIR").spawn().unwrap());
    assert!(ran.code == 2 && ran.err.contains("set LLM_API_KEY"), "{ran:?}");
}
