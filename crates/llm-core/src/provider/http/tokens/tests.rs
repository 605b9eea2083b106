//! Counts beside those of transformers, and what a tokenizer that is wrong or lacks something says.
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::*;
use crate::dialect;
use crate::error::Kind;
use crate::provider::fake::Fake;

const MODELS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/models");

/// What transformers said, written by `templates.py`.
#[derive(Deserialize)]
struct Golden {
    templates: std::collections::BTreeMap<String, String>,
    cases: Vec<Case>,
    texts: Vec<Text>,
}

#[derive(Deserialize)]
struct Case {
    template: String,
    tokens: Vec<u32>,
    text: String,
    messages: Box<RawValue>, // in its own order
    tools: Option<Box<RawValue>>,
    add_generation_prompt: Option<bool>,
    chat_template_kwargs: Option<Value>,
}

impl Case {
    fn body(&self) -> String {
        let rest = json!({"add_generation_prompt": self.add_generation_prompt, "chat_template_kwargs": self.chat_template_kwargs});
        let tools = self.tools.as_ref().map_or("null", |tools| tools.get());
        format!(r#"{{"messages":{},"tools":{tools},{}"#, self.messages, &rest.to_string()[1..])
    }
}

#[derive(Deserialize)]
struct Text {
    text: String,
    tokens: Vec<u32>,
}

fn golden() -> Golden {
    serde_json::from_str(&std::fs::read_to_string(format!("{MODELS}/templates.json")).unwrap()).unwrap()
}

/// A folder of its own for each test, gone with it.
struct Folder(PathBuf);

impl Folder {
    /// With the tokenizer of tiny-chat and these files.
    fn new(files: &[(&str, &str)]) -> Folder {
        static NEXT: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
        let n = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("llm-tokens-{}-{n}", std::process::id()));
        std::fs::create_dir_all(path.join("additional_chat_templates")).unwrap();
        std::fs::copy(format!("{MODELS}/tiny-chat/tokenizer.json"), path.join("tokenizer.json")).unwrap();
        files.iter().for_each(|(name, text)| std::fs::write(path.join(name), text).unwrap());
        Folder(path)
    }

    fn provider(&self) -> Arc<dyn Provider> {
        provider(&self.0)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn provider(path: &Path) -> Arc<dyn Provider> {
    of_path(Arc::new(Fake::says("hi")), path).unwrap()
}

async fn ask(provider: &Arc<dyn Provider>, body: &str) -> Result<Tokens> {
    let bytes = Bytes::copy_from_slice(body.as_bytes());
    let call = Call::read(Operation::Tokenize, dialect::openai(), bytes).unwrap();
    provider.call(&call).await?.single(|f| if let Frame::Tokens(t) = f { Some(t) } else { None }).await
}

async fn error(provider: &Arc<dyn Provider>, body: Value) -> Error {
    ask(provider, &body.to_string()).await.unwrap_err()
}

async fn text(provider: &Arc<dyn Provider>, tokens: Vec<u32>) -> Result<String> {
    let call = Call::new(DetokenizeRequest { model: String::new(), tokens, ..Default::default() }, Delivery::Whole);
    provider.call(&call).await?.single(|f| if let Frame::Text(t) = f { Some(t) } else { None }).await
}

fn question() -> Value {
    json!([{"role": "user", "content": "hi"}])
}

const SPECIALS: &str =
    r#"{"bos_token": "<|endoftext|>", "eos_token": {"content": "<|im_end|>", "lstrip": false}, "add_bos_token": true}"#;

#[tokio::test]
async fn every_conversation_costs_what_transformers_says() {
    let golden = golden();
    let folder = |source: &String| Folder::new(&[("tokenizer_config.json", SPECIALS), ("chat_template.jinja", source)]);
    let folders: std::collections::BTreeMap<_, _> = golden.templates.iter().map(|(n, s)| (n, folder(s))).collect();
    let own = provider(&Path::new(MODELS).join("tiny-chat"));
    for case in &golden.cases {
        let provider = folders.get(&case.template).map_or(own.clone(), Folder::provider);
        let body = case.body();
        let found = ask(&provider, &body).await.unwrap_or_else(|e| panic!("{}: {e}: {body}", case.template));
        let said = text(&provider, found.tokens.clone()).await.unwrap();
        assert_eq!((said.as_str(), found.count), (case.text.as_str(), case.tokens.len()), "{}", case.template);
        assert_eq!(found.tokens, case.tokens, "{}", case.template);
    }
    assert!(golden.cases.len() > 30);
}

#[tokio::test]
async fn every_text_costs_what_transformers_says_and_comes_back() {
    let provider = provider(&Path::new(MODELS).join("tiny-chat/tokenizer.json"));
    for case in golden().texts {
        let found = ask(&provider, &json!({"prompt": case.text}).to_string()).await.unwrap();
        assert_eq!((found.count, &found.tokens), (case.tokens.len(), &case.tokens), "{:?}", case.text);
        assert_eq!(text(&provider, found.tokens).await.unwrap(), case.text);
    }
    let stray = text(&provider, vec![5, 90_000]).await.unwrap_err();
    assert_eq!((stray.message(), stray.get_param()), ("90000 is none of the model's tokens", Some("tokens")));
    let chat = provider.call(&Call::new(ChatRequest::new("?"), Delivery::Whole)).await.unwrap();
    assert_eq!(chat.chat().await.unwrap().text, "hi", "everything else is passed on");
}

#[tokio::test]
async fn nouns_cost_what_their_bytes_do() {
    let provider = provider(&Path::new(MODELS).join("tiny-chat"));
    let tool = r#"{"type":"function","function":{"name":"f","description":"d","parameters":{"a":1,"b":2}}}"#;
    let body = format!(r#"{{"messages":[{{"role":"user","content":"hi"}}],"tools":[{tool}]}}"#);
    let request = TokenizeRequest {
        model: String::new(),
        prompt: vec![Message::user("hi")].into(),
        add_special_tokens: true,
        extra: [("tools".to_owned(), json!([serde_json::from_str::<Value>(tool).unwrap()]))].into_iter().collect(),
    };
    let reply = provider.call(&Call::new(request, Delivery::Whole)).await.unwrap();
    let noun = reply.single(|f| if let Frame::Tokens(t) = f { Some(t) } else { None }).await.unwrap();
    assert_eq!(noun.tokens, ask(&provider, &body).await.unwrap().tokens);
    assert!(noun.count > ask(&provider, &json!({"messages": question()}).to_string()).await.unwrap().count + 20);
}

#[tokio::test]
async fn a_template_may_stand_in_any_of_the_places_that_models_keep_it() {
    let says = |words: &str| format!(r#"{{% for m in messages %}}{words}{{% endfor %}}"#);
    let two = json!({"chat_template": [{"name": "default", "template": "plain"}, {"name": "tool_use", "template": "with tools"}]});
    let (list, object) = (two.to_string(), json!({"chat_template": says("object")}).to_string());
    let jinja = says("jinja");
    let tools = json!([{"type": "function", "function": {"name": "f"}}]);
    for (files, tools, reads) in [
        (vec![("tokenizer_config.json", list.as_str())], None, "plain"),
        (vec![("tokenizer_config.json", list.as_str())], Some(&tools), "with tools"),
        (vec![("tokenizer_config.json", list.as_str()), ("chat_template.json", &object)], None, "object"),
        (vec![("chat_template.json", object.as_str()), ("chat_template.jinja", &jinja)], None, "jinja"),
        (
            vec![("chat_template.jinja", &*jinja), ("additional_chat_templates/tool_use.jinja", "named")],
            Some(&tools),
            "named",
        ),
    ] {
        let folder = Folder::new(&files);
        let provider = folder.provider();
        let found = ask(&provider, &json!({"messages": question(), "tools": tools}).to_string()).await.unwrap();
        assert_eq!(text(&provider, found.tokens).await.unwrap(), reads);
    }
}

#[tokio::test]
async fn developers_are_the_system_for_templates_that_do_not_know_them() {
    let source = "{% for m in messages %}{{ m.role }}: {{ m.content }};{% endfor %}";
    let folder = Folder::new(&[("chat_template.jinja", source)]);
    let provider = folder.provider();
    let messages = json!([{"role": "system", "content": "a"}, {"role": "user", "content": "b"}, {"role": "developer", "content": "c"}]);
    let found = ask(&provider, &json!({"messages": messages}).to_string()).await.unwrap();
    assert_eq!(text(&provider, found.tokens).await.unwrap(), "system: a\n\nc;user: b;");
}

#[tokio::test]
async fn what_cannot_be_counted_says_why() {
    let alone = provider(&Path::new(MODELS).join("tiny-chat/tokenizer.json"));
    let missing = error(&alone, json!({"messages": question()})).await;
    assert!(
        missing.message().starts_with("the chat template is missing") && missing.kind() == Kind::Unsupported,
        "{missing}"
    );
    let whole = provider(&Path::new(MODELS).join("tiny-chat"));
    let image = json!([{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,eA=="}}]}]);
    let image = error(&whole, json!({"messages": image})).await;
    assert!(image.message().starts_with("a part of the kind `image_url` is not counted here"), "{image}");
    let going_on = error(&whole, json!({"messages": question(), "continue_final_message": true})).await;
    assert_eq!(going_on.get_param(), Some("continue_final_message"));
    let tools = error(&whole, json!({"messages": question(), "tools": [{"type": "function"}]})).await;
    assert_eq!((tools.kind(), tools.get_param()), (Kind::Invalid, Some("tools")));
    let folder = Folder::new(&[("chat_template.jinja", "{{ raise_exception('roles must alternate') }}")]);
    let refuses = folder.provider();
    let refused = error(&refuses, json!({"messages": question()})).await;
    assert_eq!(refused.message(), "the model's chat template refuses this conversation: roles must alternate");
}

#[tokio::test]
async fn a_template_without_an_end_is_stopped() {
    let endless = "{% for a in range(9999) %}{% for b in range(9999) %}{{ a * b }}{% endfor %}{% endfor %}";
    let folder = Folder::new(&[("chat_template.jinja", endless)]);
    let provider = folder.provider();
    let stopped = error(&provider, json!({"messages": question()})).await;
    assert!(stopped.message().ends_with("engine ran out of fuel"), "{stopped}");
}

#[tokio::test]
async fn a_template_knows_the_day() {
    let folder = Folder::new(&[("chat_template.jinja", "{{ strftime_now('%d %b %Y') }}")]);
    let provider = folder.provider();
    let found = ask(&provider, &json!({"messages": question()}).to_string()).await.unwrap();
    let said = text(&provider, found.tokens).await.unwrap();
    assert!(jiff::fmt::strtime::parse("%d %b %Y", &said).is_ok(), "{said}");
}

#[tokio::test]
async fn a_text_is_neither_cut_nor_filled_up_as_it_was_in_training() {
    let mut json: Value =
        serde_json::from_str(&std::fs::read_to_string(format!("{MODELS}/tiny-chat/tokenizer.json")).unwrap()).unwrap();
    json["truncation"] = json!({"direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0});
    json["padding"] = json!({"strategy": {"Fixed": 64}, "direction": "Right", "pad_to_multiple_of": null, "pad_id": 0, "pad_type_id": 0, "pad_token": "<|endoftext|>"});
    let folder = Folder::new(&[("tokenizer.json", &json.to_string())]);
    let provider = folder.provider();
    let long = ask(&provider, &json!({"prompt": "1 ".repeat(20)}).to_string()).await.unwrap();
    assert!((20..64).contains(&long.count), "{}", long.count);
}

#[tokio::test]
async fn a_folder_that_is_wrong_names_its_file() {
    let opened = |path: &Path| of_path(Arc::new(Fake::says("hi")), path).err().expect("it is wrong").to_string();
    assert!(opened(Path::new("/nowhere/model")).starts_with("cannot read /nowhere/model: "));
    let folder = Folder::new(&[("chat_template.jinja", "{% for %}")]);
    assert!(opened(&folder.0).starts_with("the chat template `default` is wrong: "), "{}", opened(&folder.0));
    let folder = Folder::new(&[("tokenizer_config.json", "{")]);
    assert!(opened(&folder.0).contains("tokenizer_config.json is no JSON: "), "{}", opened(&folder.0));
    // The vocabulary is read when somebody first counts.
    let folder = Folder::new(&[("tokenizer.json", "{}")]);
    let late = error(&folder.provider(), json!({"prompt": "a"})).await;
    assert!(late.kind() == Kind::Config && late.message().contains("tokenizer.json is no tokenizer"), "{late}");
    assert_eq!(late.place(), "tokenizer");
}
