//! A server that runs while its configuration changes.
use std::process::Child;
use std::time::Instant;

use futures_util::StreamExt;
use llm_tests::http;

use crate::commands::serving;
use crate::program::{Program, SOON, ended};

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

fn signal(child: &Child, name: &str) {
    let sent = std::process::Command::new("kill").args([name, &child.id().to_string()]).status().unwrap();
    assert!(sent.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_changes_is_applied_while_answers_run_and_a_wrong_one_changes_nothing() {
    let program = Program::configured(ONE);
    let write = |text: &str| std::fs::write(program.path("llm.toml"), text).unwrap();
    let (mut child, url) = serving(program.command(&["serve", "--listen", "127.0.0.1:0", "--metrics", "off"]));
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

    // A signal does not wait for the next look.
    write(&ONE.replace("models.a", "models.d"));
    signal(&child, "-HUP");
    until("the last file holds", || models(&url).contains("\"d\"") && !models(&url).contains("\"b\""));
    signal(&child, "-TERM");
    assert_eq!(ended(&mut child), 0);
}
