//! A question, its answer, and nothing else on stdout.
use std::io::Read;
use std::process::Stdio;
use std::time::{Duration, Instant};

use llm_tests::raw::{Raw, Step, events_until_close};

use crate::program::{Program, ended, ran, signal};

const PIECE: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"half an answer\"}}]}\n\n";
const THINKS: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{\"reasoning\":\"hm \\u001b[2J\"}}]}\n\n";
const ENDS: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n";

#[test]
fn the_answer_is_all_of_stdout() {
    let ran = Program::fake().run(&["hello there"]);
    assert_eq!((ran.code, ran.out.as_str(), ran.err.as_str()), (0, "hello there\n", ""));
}

#[test]
fn words_need_no_quotes_and_a_command_is_asked_about_after_two_dashes() {
    assert_eq!(Program::fake().run(&["why", "is", "it"]).out, "why is it\n");
    assert_eq!(Program::fake().run(&["--", "models"]).out, "models\n");
}

#[test]
fn what_is_piped_in_follows_the_words_between_tags() {
    let ran = Program::fake().run_with(b"+ one\n- two\n", &["sum up"]);
    assert_eq!(ran.out, "sum up\n\n<stdin>\n+ one\n- two\n</stdin>\n");
    assert_eq!(Program::fake().run_with(b"all of it\n", &[]).out, "all of it\n");
}

#[test]
fn what_is_no_text_is_replaced_with_a_warning() {
    let ran = Program::fake().run_with(b"caf\xe9 x", &[]);
    assert_eq!(ran.out, "caf\u{fffd} x\n");
    assert!(ran.err.starts_with("warning: "), "{}", ran.err);
}

#[test]
fn options_reach_the_model() {
    let program = Program::fake();
    assert_eq!(program.run(&["--max-tokens", "2", "one two three"]).out, "one two \n");
    let ran = program.run(&["--json", "--system", "be brief", "one two"]);
    let object: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!((&object["text"], &object["finish_reason"]), (&"one two".into(), &"stop".into()));
    assert_eq!(object["usage"]["completion_tokens"], 2);
    let ran = program.run(&["--stats", "--no-stream", "one two"]);
    assert_eq!(ran.out, "one two\n");
    assert!(ran.err.contains("2 tokens"), "{}", ran.err);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_whole_question_goes_to_the_server_and_the_key_with_it() {
    let raw = Raw::answering([events_until_close(), PIECE, ENDS].concat()).await;
    let url = raw.url();
    let wishes = ["-s", "be brief", "--temp", "0.5", "--seed", "7", "--stop", "END", "--max-tokens", "9"];
    let arguments = [&["--url", &url, "-k", "s3cret", "-m", "tiny", "why?"][..], &wishes].concat();
    let ran = Program::new().run(&arguments);
    assert_eq!((ran.code, ran.out.as_str()), (0, "half an answer\n"), "{}", ran.err);
    let request = &raw.requests()[0];
    let (head, body) = request.split_once("\r\n\r\n").unwrap();
    assert!(head.to_lowercase().contains("authorization: bearer s3cret"), "{head}");
    let body: serde_json::Value = serde_json::from_str(body).unwrap();
    assert_eq!(body["messages"][0]["content"], "be brief");
    assert_eq!(body["messages"][1]["content"], "why?");
    assert_eq!((&body["model"], &body["seed"], &body["max_tokens"]), (&"tiny".into(), &7.into(), &9.into()));
    assert_eq!(
        (body["temperature"].as_f64(), body["stop"][0].as_str().or(body["stop"].as_str())),
        (Some(0.5), Some("END"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn thinking_goes_to_stderr_and_cannot_steer_the_terminal() {
    let raw = Raw::answering([events_until_close(), THINKS, PIECE, ENDS].concat()).await;
    let ran = Program::before(&raw.url()).run(&["why?"]);
    assert_eq!((ran.code, ran.out.as_str()), (0, "half an answer\n"));
    assert!(ran.err.starts_with("hm \u{fffd}[2J"), "{:?}", ran.err);
}

#[test]
fn nothing_is_coloured_where_nobody_looks() {
    for arguments in [&["--nonsense"][..], &["--help"], &["models"], &["check"], &["-m", "other", "hi"]] {
        let ran = Program::fake().run(arguments);
        assert!(!ran.out.contains('\u{1b}') && !ran.err.contains('\u{1b}'), "{ran:?}");
    }
}

#[test]
fn a_reader_that_leaves_is_no_failure() {
    let program = Program::configured("[models.slow]\nprovider = 'fake'\neach_ms = 5");
    let words = "word ".repeat(2000);
    let mut child = program.command(&[&words]).spawn().unwrap();
    let mut first = [0; 4];
    child.stdout.take().unwrap().read_exact(&mut first).unwrap(); // and closes it
    let ran = ran(child);
    assert_eq!((&first, ran.code, ran.err.as_str()), (b"word", 0, ""));
}

#[tokio::test(flavor = "multi_thread")]
async fn ctrl_c_stops_the_model_at_once() {
    let begin = [events_until_close(), PIECE].concat().into_bytes();
    let raw = Raw::start(vec![vec![Step::Read, Step::Send(begin), Step::UntilClosed]]).await;
    let program = Program::before(&raw.url());
    let mut child = program.command(&["why?"]).spawn().unwrap();
    let mut begun = [0; 14];
    child.stdout.as_mut().unwrap().read_exact(&mut begun).unwrap();
    let pressed = Instant::now();
    interrupt(child.id());
    raw.closed().await;
    assert_eq!((ended(&mut child), &begun), (130, b"half an answer"));
    assert!(pressed.elapsed() < Duration::from_secs(2), "{:?}", pressed.elapsed());
}

#[test]
fn ctrl_c_works_while_a_slow_reader_holds_the_answer_up() {
    let program = Program::configured("[models.fast]\nprovider = 'fake'");
    let mut child = program.command(&[]).stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    std::thread::spawn(move || std::io::Write::write_all(&mut stdin, "word ".repeat(200_000).as_bytes()));
    child.stdout.as_mut().unwrap().read_exact(&mut [0; 4]).unwrap(); // and no more: the pipe is full soon
    interrupt(child.id());
    assert_eq!(ended(&mut child), 130);
}

fn interrupt(process: u32) {
    signal(process, "INT");
}
