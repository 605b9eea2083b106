//! Both directions of Ollama's shapes, with the examples of its own guide.
use bytes::BytesMut;
use serde_json::{Map, Value, json};

use super::Ollama;
use crate::call::*;
use crate::dialect::{Dialect, openai};
use crate::error::{Kind, Result};

const STREAM: &str = concat!(
    r#"{"model":"llama3.2","created_at":"2023-08-04T08:52:19.385406455-07:00","message":{"role":"assistant","content":"","thinking":"Hm."},"done":false}"#,
    "\n",
    r#"{"model":"llama3.2","created_at":"2023-08-04T08:52:19.4-07:00","message":{"role":"assistant","content":"The"},"done":false}"#,
    "\n",
    r#"{"model":"llama3.2","created_at":"2023-08-04T19:22:45.499127Z","message":{"role":"assistant","content":""},"done_reason":"length","done":true,"total_duration":4883583458,"load_duration":1334875,"prompt_eval_count":26,"prompt_eval_duration":342546000,"eval_count":282,"eval_duration":4535599000}"#,
    "\n"
);
const TOOL: &str = r#"{"model":"llama3.2","created_at":"2025-07-07T20:32:53.844124Z","message":{"role":"assistant","content":"","tool_calls":[{"function":{"name":"get_weather","arguments":{"city":"Tokyo","done":true}}}]},"done_reason":"stop","done":true,"prompt_eval_count":169,"eval_count":18}"#;
const PNG: &str = "iVBORw0KGgo=";

fn frames(bytes: &str) -> Result<Vec<Frame>> {
    let (mut reader, mut nouns) = (Ollama::Chat.reader(), Vec::new());
    reader.read(bytes.as_bytes(), &mut nouns).map(|()| nouns)
}

fn answer(bytes: &str) -> ChatReply {
    let mut reply = ChatReply::default();
    for frame in frames(bytes).unwrap() {
        let Frame::Event(event) = frame else { panic!("{frame:?}") };
        reply.add(event);
    }
    reply
}

/// What a call of ours sends.
fn sent(call: &Call) -> Value {
    let has_path = |dialect: &Ollama| dialect.paths().iter().any(|(known, _)| *known == call.operation);
    let speaks: &[&dyn Dialect] = if has_path(&Ollama::Chat) { &[&Ollama::Chat] } else { &[&Ollama::Generate] };
    serde_json::from_slice(&call.wire(speaks).unwrap().bytes).unwrap()
}

/// A client's body as a call, and what OpenAI's host would be sent.
fn read(path: &str, body: Value) -> (Call, Value) {
    let dialects = [Ollama::Chat, Ollama::Generate, Ollama::Embeddings].iter();
    let mut doors = dialects.flat_map(|dialect| dialect.doors().iter().map(move |door| (dialect, door)));
    let (dialect, (operation, _)) = doors.find(|(_, (_, known))| *known == path).unwrap();
    let call = Call::read(*operation, dialect, body.to_string().into()).unwrap();
    let wired = call.wire(&[&openai::OpenAi]).unwrap();
    let body = serde_json::from_slice(&wired.bytes).unwrap();
    (call, body)
}

fn written(dialect: Ollama, call: &Call, frames: Vec<Frame>) -> Vec<Value> {
    let (mut writer, mut out) = (dialect.writer(call), BytesMut::new());
    frames.into_iter().for_each(|frame| writer.write(frame, &mut out).unwrap());
    writer.end(&mut out).unwrap();
    serde_json::Deserializer::from_slice(&out).into_iter().map(|line| line.unwrap()).collect()
}

#[test]
fn an_answer_its_thinking_its_end_and_its_cost_are_understood() {
    let reply = answer(STREAM);
    assert_eq!((reply.text.as_str(), reply.reasoning.as_str(), reply.model.as_str()), ("The", "Hm.", "llama3.2"));
    assert_eq!(reply.finish_reason, Some(FinishReason::Length));
    let usage = reply.usage.unwrap();
    assert_eq!((usage.prompt_tokens, usage.completion_tokens), (26, 282));
    assert_eq!(reply.extra["load_duration"], 1_334_875);
    let reply = answer(r#"{"model":"m","response":"The sky","done":false}{"model":"m","response":"","done":true}"#);
    assert_eq!((reply.text.as_str(), reply.finish_reason), ("The sky", Some(FinishReason::Stop)));
}

#[test]
fn a_call_gets_an_id_and_its_arguments_become_text() {
    let reply = answer(TOOL);
    let [call] = &reply.tool_calls[..] else { panic!("{reply:?}") };
    assert_eq!((call.function.name.as_str(), reply.finish_reason), ("get_weather", Some(FinishReason::ToolCalls)));
    assert!(call.id.starts_with("call_"), "{call:?}");
    assert_eq!(call.arguments::<Value>().unwrap()["city"], "Tokyo");
}

#[test]
fn a_glance_sees_the_end_and_is_not_fooled_by_a_tool_that_is_done() {
    let mut seen = STREAM.lines().map(|line| Ollama::Chat.glance(line.as_bytes()));
    assert!(!seen.next().unwrap().is_finished && !seen.next().unwrap().is_finished);
    let last = seen.next().unwrap();
    assert!(last.is_finished && last.is_done && last.usage.unwrap().completion_tokens == 282);
    let calls = TOOL.replace(r#","done":true,"prompt"#, r#","done":false,"prompt"#);
    assert!(!Ollama::Chat.glance(calls.as_bytes()).is_finished && Ollama::Chat.glance(TOOL.as_bytes()).is_finished);
    assert!(Ollama::Chat.glance(br#"{"error":"an error was encountered while running the model"}"#).failure.is_some());
    let spaced = Ollama::Chat.glance(br#"{"message": {"content": "\"done\": true"}, "done": false}"#);
    assert!(!spaced.is_finished);
}

#[test]
fn vectors_and_models_are_understood() {
    let vectors = r#"{"model":"all-minilm","embeddings":[[0.5,-1],[0.25,2]],"total_duration":1,"prompt_eval_count":8}"#;
    let Some(Frame::Vectors(embeddings)) = frames(vectors).unwrap().pop() else { panic!() };
    assert_eq!(
        (embeddings.vectors, embeddings.usage.unwrap().prompt_tokens),
        (vec![vec![0.5, -1.0], vec![0.25, 2.0]], 8)
    );
    let models =
        r#"{"models":[{"name":"llama3:latest","model":"llama3:latest","size":4,"details":{"family":"llama"}}]}"#;
    let Some(Frame::Models(models)) = frames(models).unwrap().pop() else { panic!() };
    assert_eq!((models[0].id.as_str(), models[0].extra["size"].as_u64()), ("llama3:latest", Some(4)));
}

#[test]
fn what_went_wrong_is_told_by_its_words() {
    for (status, body, kind, code) in [
        (404, r#"{"error":"model \"x\" not found, try pulling it first"}"#, Kind::NotFound, Some("model_not_found")),
        (
            400,
            r#"{"error":"the input length exceeds the context length"}"#,
            Kind::ContextLength,
            Some("context_length_exceeded"),
        ),
        (400, r#"{"error":"\"llama3\" does not support thinking"}"#, Kind::Unsupported, Some("unsupported")),
        (
            503,
            r#"{"error":"server busy, please try again.  maximum pending requests exceeded"}"#,
            Kind::Overloaded,
            None,
        ),
        (500, r#"{"error":"model requires more system memory"}"#, Kind::Upstream, None),
    ] {
        let error = Ollama::Chat.refusal(status, body.as_bytes());
        assert_eq!((error.kind(), error.get_code().or(code)), (kind, code.or(error.get_code())), "{body}");
    }
    assert_eq!(frames(r#"{"error":"unexpected EOF"}"#).unwrap_err().message(), "unexpected EOF");
    assert!(frames(r#"{"model":"m"}"#).is_err() && frames(r#"{"response":"#).is_err());
}

#[test]
fn a_conversation_is_sent_in_its_words() {
    let picture = Image::from_base64(PNG).unwrap();
    let mut looks = Message::user("What is this?");
    looks.content.push(picture.into());
    let mut calls = Message::assistant("");
    calls.tool_calls =
        serde_json::from_value(json!([{"id": "c1", "function": {"name": "f", "arguments": "{\"x\":1}"}}])).unwrap();
    let request = ChatRequest::new("unused").temperature(0.2).max_tokens(5);
    let request = ChatRequest { messages: vec![looks, calls, Message::tool("c1", "4")], ..request };
    let request =
        request.model("llava").extra("num_ctx", 8192).extra("options", json!({"num_gpu": 1, "temperature": 1.0}));
    let request = request.extra("reasoning_effort", "none").extra("response_format", json!({"type": "json_object"}));
    assert_eq!(
        sent(&Call::new(request, Delivery::Whole)),
        json!({
            "model": "llava", "stream": false, "truncate": false, "think": false, "format": "json",
            "options": {"num_ctx": 8192, "num_gpu": 1, "temperature": 0.2, "num_predict": 5},
            "messages": [
                {"role": "user", "content": "What is this?", "images": [PNG]},
                {"role": "assistant", "content": "", "tool_calls": [{"id": "c1", "function": {"name": "f", "arguments": {"x": 1}}}]},
                {"role": "tool", "content": "4", "tool_call_id": "c1", "tool_name": "f"},
            ],
        })
    );
}

#[test]
fn a_text_is_gone_on_with_as_it_is_and_texts_are_embedded_together() {
    let body =
        sent(&Call::new(CompleteRequest { model: "coder".into(), ..CompleteRequest::new("def f(") }, Delivery::Stream));
    assert_eq!(body, json!({"model": "coder", "prompt": "def f(", "raw": true, "stream": true, "truncate": false}));
    let mut hole = CompleteRequest { model: "coder".into(), ..CompleteRequest::new("def f(") };
    hole.extra.insert("suffix".into(), "return 1".into());
    assert_eq!(sent(&Call::new(hole, Delivery::Whole)).get("raw"), None, "its template knows where the hole is");
    let body = sent(&Call::new(EmbedRequest::new(["a", "b"]).model("e").dimensions(4), Delivery::Whole));
    assert_eq!(body, json!({"model": "e", "input": ["a", "b"], "dimensions": 4, "truncate": false}));
}

#[test]
fn what_it_has_no_words_for_is_refused_or_told() {
    let sent = |request: ChatRequest| {
        let call = Call::new(request, Delivery::Whole);
        let refused = Ollama::Chat.write(&call).err();
        let warnings = call.context.progress.borrow().warnings.clone();
        (refused, warnings.join("\n"))
    };
    let two = sent(ChatRequest { n: Some(2), ..ChatRequest::new("?") }).0.unwrap();
    assert_eq!((two.kind(), two.get_param()), (Kind::Unsupported, Some("n")));
    let mut looks = ChatRequest::new("?");
    looks.messages[0].content.push(Image::url("https://example.com/a.png").into());
    let error = sent(looks).0.unwrap();
    assert_eq!((error.kind(), error.get_param()), (Kind::Unsupported, Some("messages[0]")));
    let mut odd =
        ChatRequest::new("?").extra("guided_regex", "a+").extra("tool_choice", "required").extra("user", "me");
    odd.sampling.logit_bias.push((1, 2.0));
    odd.tools.push(json!({"type": "function", "function": {"name": "f"}}));
    let warnings = sent(odd).1;
    assert!(
        ["`guided_regex`", "`tool_choice`", "`logit_bias`"].iter().all(|name| warnings.contains(name)),
        "{warnings}"
    );
    assert_eq!(warnings.lines().count(), 3, "who asks is no part of the question: {warnings}");
}

#[test]
fn a_clients_conversation_becomes_ours() {
    let (call, body) = read(
        "/api/chat",
        json!({
            "model": "m", "format": {"type": "object"}, "think": false, "keep_alive": "5m",
            "options": {"temperature": 0.5, "num_predict": -1, "repeat_penalty": 1.1, "num_ctx": 4096, "stop": ["x"]},
            "messages": [
                {"role": "user", "content": "?", "images": [PNG]},
                {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": {"x": 1}}}, {"function": {"name": "g", "arguments": {}}}]},
                {"role": "tool", "tool_name": "g", "content": "4"},
                {"role": "tool", "content": "5"},
            ],
        }),
    );
    assert_eq!((call.operation, call.delivery), (Operation::Chat, Delivery::Stream), "its clients want a stream");
    assert_eq!(
        (&body["temperature"], &body["repetition_penalty"], &body["stop"]),
        (&json!(0.5), &json!(1.1), &json!(["x"]))
    );
    assert_eq!((body.get("max_tokens"), body.get("options"), &body["stream"]), (None, None, &json!(true)));
    assert_eq!(body["response_format"]["json_schema"]["schema"], json!({"type": "object"}));
    assert_eq!(body["chat_template_kwargs"], json!({"enable_thinking": false}));
    let messages = &body["messages"];
    assert_eq!(messages[0]["content"][1]["image_url"]["url"], format!("data:image/png;base64,{PNG}"));
    assert_eq!(messages[1]["tool_calls"][0]["function"]["arguments"], "{\"x\":1}");
    assert_eq!((&messages[2]["tool_call_id"], &messages[3]["tool_call_id"]), (&json!("call_1"), &json!("call_0")));
    let warnings = call.context.progress.borrow().warnings.clone();
    assert_eq!(warnings, ["only an Ollama knows options.num_ctx, keep_alive: left out"]);
}

#[test]
fn one_prompt_is_a_conversation_unless_it_is_raw_or_has_a_hole() {
    let (call, body) = read(
        "/api/generate",
        json!({"model": "m", "prompt": "hi", "system": "Be brief.", "stream": false, "suffix": ""}),
    );
    assert_eq!((call.operation, call.delivery), (Operation::Chat, Delivery::Whole));
    assert_eq!(
        body["messages"],
        json!([{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hi"}])
    );
    assert_eq!(body.get("suffix"), None);
    let (call, body) =
        read("/api/generate", json!({"model": "m", "prompt": "def f(", "suffix": "return", "stream": false}));
    assert_eq!(
        (call.operation, &body["prompt"], &body["suffix"]),
        (Operation::Complete, &json!("def f("), &json!("return"))
    );
    let (call, body) = read("/api/generate", json!({"model": "m", "prompt": "hi", "raw": true}));
    assert_eq!((call.operation, body.get("raw")), (Operation::Complete, None));
}

#[test]
fn a_client_reads_lines_of_its_own_shape() {
    let (call, _) = read("/api/chat", json!({"model": "m", "messages": [{"role": "user", "content": "?"}]}));
    let lines = written(Ollama::Chat, &call, frames(STREAM).unwrap());
    assert_eq!(lines[0]["message"], json!({"role": "assistant", "content": "", "thinking": "Hm."}));
    assert_eq!((&lines[1]["message"]["content"], &lines[1]["done"]), (&json!("The"), &json!(false)));
    assert_eq!((&lines[2]["done"], &lines[2]["done_reason"]), (&json!(true), &json!("length")));
    assert_eq!((&lines[2]["eval_count"], &lines[2]["eval_duration"]), (&json!(282), &json!(4_535_599_000_u64)));
    let lines = written(Ollama::Chat, &call, frames(TOOL).unwrap());
    let function = &lines[0]["message"]["tool_calls"][0]["function"];
    assert_eq!((&function["arguments"]["city"], &lines[1]["done_reason"]), (&json!("Tokyo"), &json!("stop")));
    let (call, _) = read("/api/generate", json!({"model": "m", "prompt": "?", "stream": false}));
    let whole = written(Ollama::Generate, &call, frames(STREAM).unwrap());
    assert_eq!((whole.len(), &whole[0]["response"], &whole[0]["thinking"]), (1, &json!("The"), &json!("Hm.")));
    assert_eq!((whole[0].get("message"), &whole[0]["done"]), (None, &json!(true)));
}

#[test]
fn one_texts_vector_is_asked_and_told_as_clients_once_did() {
    let (call, body) = read("/api/embeddings", json!({"model": "m", "prompt": "a", "keep_alive": "5m"}));
    assert_eq!((call.operation, &body["input"], body.get("prompt")), (Operation::Embed, &json!(["a"]), None));
    let vectors =
        || vec![Frame::Vectors(Embeddings { vectors: vec![vec![0.5, 1.0]], usage: None, ..Embeddings::default() })];
    assert_eq!(written(Ollama::Embeddings, &call, vectors()), [json!({"embedding": [0.5, 1.0]})]);
    let lost = Call::read(Operation::Embed, &Ollama::Embeddings, br#"{"model":"m"}"#.as_slice().into());
    assert_eq!(lost.and_then(|call| call.request().map(drop)).unwrap_err().get_param(), Some("prompt"));
    // A host of that age.
    let wired = |texts: &[&str]| {
        Call::new(EmbedRequest::new(texts.to_vec()).model("m"), Delivery::Whole)
            .wire(&[&Ollama::Embeddings])
            .map(|wired| wired.bytes)
    };
    let body: Value = serde_json::from_slice(&wired(&["a"]).unwrap()).unwrap();
    assert_eq!((&body["prompt"], body.get("input")), (&json!("a"), None));
    assert_eq!(wired(&["a", "b"]).unwrap_err().get_param(), Some("input"));
    let Frame::Vectors(read) = frames(r#"{"embedding":[0.5,1.0]}"#).unwrap().remove(0) else { panic!() };
    assert_eq!(read.vectors, [[0.5, 1.0]]);
}

#[test]
fn an_answer_that_breaks_off_has_no_last_line() {
    let (call, _) = read("/api/chat", json!({"model": "m", "messages": [{"role": "user", "content": "?"}]}));
    let (mut writer, mut out) = (Ollama::Chat.writer(&call), BytesMut::new());
    writer.write(Frame::Event(Event::Text("half".into())), &mut out).unwrap();
    let error = writer.end(&mut out).unwrap_err();
    assert_eq!(error.get_code(), Some("stream_truncated"));
    assert_eq!(&Ollama::Chat.failure(&error)[..], b"{\"error\":\"the answer broke off before its end\"}\n");
}

#[test]
fn a_list_has_what_its_clients_cut_and_print() {
    let call = Call::new(Request::Models, Delivery::Whole);
    let extra = Map::from_iter([("capabilities".to_owned(), json!(["chat", "embed", "tokenize"]))]);
    let model = ModelInfo { id: "m".into(), max_model_len: Some(2048), extra };
    let listed = written(Ollama::Chat, &call, vec![Frame::Models(vec![model])]).remove(0);
    let model = &listed["models"][0];
    assert_eq!((&model["name"], &model["modified_at"]), (&json!("m"), &json!("1970-01-01T00:00:00.000000Z")));
    assert_eq!(
        (model["digest"].as_str().unwrap().len(), &model["capabilities"]),
        (64, &json!(["completion", "tools", "embedding"]))
    );
}
