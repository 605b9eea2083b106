//! What real servers said, again: every recording through the provider `replay`, and over a socket through a host.
use std::path::{Path, PathBuf};

use futures_util::StreamExt;
use llm_core::provider::replay::Recording;
use llm_core::testkit::{Mock, Subject, answer, chunk, events_in_chunks};
use llm_core::{
    Call, ChatReply, ChatRequest, CompleteRequest, Config, Content, Delivery, DetokenizeRequest, EmbedRequest, Error,
    Event, FinishReason, Frame, Image, Kind, Llm, Message, Operations, Part, Prompt, Provider, ScoreRequest,
    TokenizeRequest,
};
use serde_json::{Value, json};

const SERVERS: [&str; 2] = ["vllm", "llama-server"];
const PARIS: &str = "The capital of France is Paris.";
const RED: &str = "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAgAAAAICAIAAABLbSncAAAAFUlEQVR42mO8IyfHgA0wMeAAg1MCAOBWAShOAhDlAAAAAElFTkSuQmCC";
const BLUE: &str = "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAgAAAAICAIAAABLbSncAAAAFUlEQVR42mOUs7nDgA0wMeAAg1MCAPYOAUYEOy/6AAAAAElFTkSuQmCC";

fn recordings(server: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("recordings").join(server)
}

fn replay(recordings: &Path) -> Llm {
    replay_of("tiny", recordings)
}

fn replay_of(model: &str, recordings: &Path) -> Llm {
    let settings = format!(
        "retry = {{ max_retries = 0 }}\n[models.{model}]\nprovider = 'replay'\nrecordings = '{}'",
        recordings.display()
    );
    Llm::new(&Config::from_toml(&settings).unwrap()).unwrap()
}

/// One recording of a server's, which answers every question.
fn file(server: &str, name: &str) -> PathBuf {
    recordings(server).join(name).with_extension("txt")
}

fn recording(server: &str, name: &str) -> Recording {
    let text = std::fs::read(recordings(server).join(name).with_extension("txt")).unwrap();
    Recording::read(name, &String::from_utf8_lossy(&text)).unwrap()
}

/// A server that says what was recorded, in chunks if it was a stream.
async fn server(recording: &Recording) -> Mock {
    let body = String::from_utf8(recording.body.to_vec()).unwrap();
    let kind = recording.header("content-type").unwrap_or_default();
    if kind.starts_with("text/event-stream") {
        let chunks: String = body.split_inclusive("\n\n").map(chunk).collect();
        return Mock::answering([events_in_chunks(), &chunks, &chunk("\n\n"), &chunk("")].concat()).await;
    }
    Mock::answering(answer(&format!("{} x", recording.status), &format!("content-type: {kind}\r\n"), &body)).await
}

fn host(server: &Mock) -> Llm {
    host_of("vllm", server)
}

fn host_of(provider: &str, server: &Mock) -> Llm {
    let settings =
        format!("retry = {{ max_retries = 0 }}\n[models.tiny]\nprovider = '{provider}'\nbase_url = '{}'", server.url());
    Llm::new(&Config::from_toml(&settings).unwrap()).unwrap()
}

async fn streamed(llm: &Llm, request: ChatRequest) -> Result<ChatReply, Error> {
    let mut stream = llm.stream(request).await?;
    while stream.next().await?.is_some() {}
    Ok(stream.so_far().clone())
}

fn paris() -> ChatRequest {
    ChatRequest::new("What is the capital of France?").temperature(0.0)
}

fn weather() -> ChatRequest {
    let tool = json!({"type": "function", "function": {"name": "get_weather", "description": "d", "parameters": {
        "type": "object", "properties": {"location": {"type": "string"}}, "required": ["location"]}}});
    ChatRequest { tools: vec![tool], ..ChatRequest::new("What is the weather in Paris?").temperature(0.0) }
}

#[tokio::test]
async fn a_text_is_the_same_whole_and_streamed_and_its_cost_is_told() {
    for server in SERVERS {
        let llm = replay(&recordings(server));
        for reply in [llm.chat(paris()).await.unwrap(), streamed(&llm, paris()).await.unwrap()] {
            let usage = reply.usage.unwrap();
            assert_eq!((reply.text.as_str(), reply.finish_reason), (PARIS, Some(FinishReason::Stop)), "{server}");
            assert_eq!((usage.prompt_tokens, usage.completion_tokens), (18, 8), "{server}");
        }
        let short = llm.chat(paris().max_tokens(3)).await.unwrap();
        assert_eq!(
            (short.text.as_str(), short.finish_reason),
            ("The capital of", Some(FinishReason::Length)),
            "{server}"
        );
    }
}

#[tokio::test]
async fn usage_with_every_chunk_is_read_as_the_last_word_on_it() {
    for server in SERVERS {
        let llm = replay(&recordings(server));
        let every = paris().extra("stream_options", json!({"include_usage": true, "continuous_usage_stats": true}));
        let reply = streamed(&llm, every).await.unwrap();
        assert_eq!((reply.text.as_str(), reply.usage.unwrap().completion_tokens), (PARIS, 8), "{server}");
    }
}

/// The one call that a reply wants made: its name and arguments.
fn called(reply: &ChatReply) -> (String, Value) {
    let calls = serde_json::to_value(&reply.tool_calls).unwrap();
    assert!(
        calls.as_array().unwrap().len() == 1 && calls[0]["id"].as_str().is_some_and(|id| !id.is_empty()),
        "{calls}"
    );
    let function = &calls[0]["function"];
    let arguments = function["arguments"].as_str().expect("arguments are JSON in a string");
    (function["name"].as_str().unwrap().to_owned(), serde_json::from_str(arguments).unwrap())
}

#[tokio::test]
async fn tools_are_called_whether_free_required_or_named_whole_or_streamed() {
    let named = json!({"type": "function", "function": {"name": "get_weather"}});
    for server in SERVERS {
        let llm = replay(&recordings(server));
        let replies = [
            ("auto", llm.chat(weather()).await.unwrap()),
            ("auto, streamed", streamed(&llm, weather()).await.unwrap()),
            ("required", llm.chat(weather().extra("tool_choice", "required")).await.unwrap()),
            ("named, streamed", streamed(&llm, weather().extra("tool_choice", named.clone())).await.unwrap()),
        ];
        for (how, reply) in replies {
            let (name, arguments) = called(&reply);
            assert_eq!(name, "get_weather", "{server}, {how}");
            assert!(
                arguments.as_object().unwrap().values().any(|value| value == "Paris"),
                "{server}, {how}: {arguments}"
            );
            assert!(reply.finish_reason.is_some() && reply.text.is_empty(), "{server}, {how}: {reply:?}");
        }
    }
}

#[tokio::test]
async fn tools_are_called_as_the_kit_wants_it() {
    for server in SERVERS {
        let llm = replay(&recordings(server));
        let subject = Subject::new(&**llm.gateway()).model("tiny").only(Operations::NONE);
        subject.calls(weather(), "get_weather").conforms().await.unwrap_or_else(|why| panic!("{server}: {why}"));
    }
}

#[tokio::test]
async fn an_answer_in_a_schema_is_json() {
    let schema = json!({"type": "json_schema", "json_schema": {"name": "x", "schema": {
        "type": "object", "properties": {"c": {"enum": ["red", "green"]}}, "required": ["c"]}}});
    for server in SERVERS {
        let reply = replay(&recordings(server)).chat(paris().extra("response_format", schema.clone())).await.unwrap();
        let answer: Value = serde_json::from_str(&reply.text).unwrap();
        assert!(["red", "green"].contains(&answer["c"].as_str().unwrap()), "{server}: {answer}");
    }
}

#[tokio::test]
async fn log_probabilities_come_with_the_words() {
    for server in SERVERS {
        let llm = replay(&recordings(server));
        let call = Call::new(
            paris().model("tiny").max_tokens(3).extra("logprobs", true).extra("top_logprobs", 2),
            Delivery::Whole,
        );
        let mut frames = llm.gateway().call(&call).await.unwrap().events();
        let mut seen = None;
        while let Some(frame) = frames.next().await {
            if let Frame::Event(Event::Logprobs(logprobs)) = frame.unwrap() {
                seen = Some(serde_json::to_value(logprobs).unwrap());
            }
        }
        let seen = seen.expect("logprobs");
        assert_eq!(seen["content"][0]["token"], "The", "{server}");
        assert_eq!(seen["content"].as_array().unwrap().len(), 3, "{server}");
    }
}

#[tokio::test]
async fn texts_are_continued() {
    for server in SERVERS {
        let llm = replay(&recordings(server));
        let mut request = CompleteRequest { model: "tiny".into(), ..CompleteRequest::new("Hello") };
        (request.sampling.max_tokens, request.sampling.temperature) = (Some(4), Some(0.0));
        request.extra.insert("logprobs".into(), 1.into());
        let reply = llm.complete(request).await.unwrap();
        assert!(!reply.text.is_empty() && reply.finish_reason.is_some(), "{server}: {reply:?}");
    }
}

#[tokio::test]
async fn tokens_are_counted_and_become_text_again() {
    let llm = replay(&recordings("vllm"));
    let request = TokenizeRequest {
        model: "tiny".into(),
        prompt: Prompt::Chat(vec![Message::user("What is the capital of France?")]),
        add_special_tokens: true,
        extra: serde_json::Map::from_iter([("return_token_strs".to_owned(), true.into())]),
    };
    let tokens = llm.tokenize(request).await.unwrap();
    assert_eq!((tokens.count, tokens.tokens.len(), tokens.max_model_len), (18, 18, Some(2048)));
    let call = Call::new(
        DetokenizeRequest { model: "tiny".into(), tokens: vec![5, 6, 7], ..Default::default() },
        Delivery::Whole,
    );
    let reply = llm.gateway().call(&call).await.unwrap();
    let text = reply.single(|frame| if let Frame::Text(text) = frame { Some(text) } else { None }).await.unwrap();
    assert_eq!(text, "&'(");
}

#[tokio::test]
async fn llama_servers_tokens_become_text_and_its_silence_about_their_number_is_no_zero() {
    let server_of = async |name: &str| server(&recording("llama-server", name)).await;
    let text = host_of("llama-server", &server_of("detokenize").await).detokenize([5, 6, 7]).await.unwrap();
    assert_eq!(text, "&'(");
    // Asked in vLLM's words, it understands none of them and lists no token.
    for name in ["tokenize", "tokenize_chat"] {
        let error = host(&server_of(name).await).count_tokens("Hello world").await.unwrap_err();
        assert_eq!(error.kind(), Kind::Upstream, "{name}: {error:?}");
    }
}

/// Images and then words, as one message.
fn shown(images: &[&str], words: &str) -> Message {
    let images = images.iter().map(|url| Part::from(Image::url(*url)));
    Message { content: Content::Parts(images.chain([Part::text(words)]).collect()), ..Message::user("") }
}

const COLOUR: &str = "What colour is this image?";

/// A recording of a model that sees, what it said, and the tokens of its prompt: 16 or so for an image.
const SEEN: &[(&str, &str, u32)] = &[
    ("vision_chat", "red", 40),
    ("vision_chat_describe", "A blue image.", 38),
    ("vision_chat_detail", "red", 40),
    ("vision_chat_no_image", "Hello! I am a tiny test model. How can I help you today?", 23),
    ("vision_chat_only_image", "red", 27),
    ("vision_chat_read", "7", 36),
    ("vision_chat_stream", "red", 40),
    ("vision_chat_two_images", "red, blue", 57),
    ("vision_http_private", "red", 40),
];

#[tokio::test]
async fn what_a_model_sees_is_told_replayed_and_over_a_socket() {
    for (name, text, tokens) in SEEN {
        let server = server(&recording("vllm", name)).await;
        for (how, llm) in [("replayed", replay(&file("vllm", name))), ("over a socket", host(&server))] {
            let is_stream = name.ends_with("_stream");
            let reply = if is_stream { streamed(&llm, "?".into()).await } else { llm.chat("?").await };
            let reply = reply.unwrap();
            let told = (reply.text.as_str(), reply.usage.unwrap().prompt_tokens, reply.finish_reason);
            assert_eq!(told, (*text, *tokens, Some(FinishReason::Stop)), "{name} {how}");
        }
    }
}

#[tokio::test]
async fn images_are_shown_as_they_were_recorded_whole_and_streamed() {
    let llm = replay_of("vlm", &recordings("vllm"));
    let after = ChatRequest::new(COLOUR).image(Image::url(RED)).temperature(0.0);
    assert_eq!(llm.chat(after).await.unwrap().text, "red");
    let before = ChatRequest::from(vec![shown(&[RED], COLOUR)]).temperature(0.0);
    assert_eq!(streamed(&llm, before).await.unwrap().text, "red");
    let two = ChatRequest::from(vec![shown(&[RED, BLUE], COLOUR)]).temperature(0.0);
    assert_eq!(llm.chat(two).await.unwrap().text, "red, blue");
    let prompt = Prompt::Chat(vec![shown(&[RED], COLOUR)]);
    let counted = TokenizeRequest { model: "vlm".into(), prompt, add_special_tokens: true, extra: Default::default() };
    let tokens = llm.tokenize(counted).await.unwrap();
    assert_eq!((tokens.count, tokens.tokens.len(), tokens.max_model_len), (40, 40, Some(2048)));
}

#[tokio::test]
async fn a_vector_is_the_same_in_numbers_and_in_base64_and_a_list_keeps_its_order() {
    let image = || EmbedRequest::image(Image::url(RED));
    let llm = replay_of("clip", &recordings("vllm"));
    let numbers = llm.embed(image()).await.unwrap();
    let encoded = llm.embed(EmbedRequest { base64: true, ..image() }).await.unwrap();
    assert_eq!((&numbers.vectors, numbers.vectors[0].len()), (&encoded.vectors, 64));
    assert_eq!((numbers.usage, numbers.usage.unwrap().prompt_tokens), (encoded.usage, 1));
    // Beside an image a text is not read: that is why the two are refused together here.
    assert_eq!(replay(&file("vllm", "vision_embed_both")).embed(image()).await.unwrap().vectors, numbers.vectors);

    let list = llm.embed(["a red image", "a blue image"]).await.unwrap();
    assert_eq!((list.vectors.len(), list.usage.unwrap().prompt_tokens), (2, 12));
    let alone = replay(&file("vllm", "vision_embed_text")).embed("a red image").await.unwrap();
    assert_eq!((&alone.vectors[0], alone.usage.unwrap().prompt_tokens), (&list.vectors[0], 6));
    for name in ["vision_embed_image", "vision_embed_base64"] {
        let server = server(&recording("vllm", name)).await;
        assert_eq!(host(&server).embed(image()).await.unwrap().vectors, numbers.vectors, "{name} over a socket");
    }
}

#[tokio::test]
async fn a_text_and_an_image_have_a_score() {
    let server = server(&recording("vllm", "vision_score_clip")).await;
    for llm in [replay(&file("vllm", "vision_score_clip")), host(&server)] {
        let answer = llm.score(ScoreRequest::new(["a red image"], ["?"])).await.unwrap();
        assert!(answer.scores.len() == 1 && (answer.scores[0] - 0.973_277_5).abs() < 1e-6, "{:?}", answer.scores);
        assert_eq!(answer.usage.unwrap().prompt_tokens, 7);
    }
}

#[tokio::test]
async fn a_model_that_reads_text_only_is_told_from_one_that_fails() {
    let blind = replay(&file("vllm", "vision_err_text_only_model"));
    let error = blind.caption(Image::url(RED)).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Unsupported);
    assert!(error.message().contains("VISION_PROVIDER"), "{error}");
}

/// A server, a recording, and the kind, the code and the field of its error.
type Refusal = (&'static str, &'static str, Kind, Option<&'static str>, Option<&'static str>);

/// Every refusal that was recorded, and what a caller must be able to tell from it.
const REFUSALS: &[Refusal] = &[
    ("vllm", "err_404", Kind::Unsupported, Some("unsupported"), None),
    ("vllm", "err_405", Kind::Invalid, None, None),
    ("vllm", "err_ctx", Kind::ContextLength, Some("context_length_exceeded"), Some("input_text")),
    ("vllm", "err_draining", Kind::Unavailable, Some("model_draining"), None),
    ("vllm", "err_embeddings", Kind::Unsupported, Some("unsupported"), None),
    ("vllm", "err_engine_dead", Kind::Upstream, None, None),
    ("vllm", "err_json", Kind::Invalid, None, Some("body.9")),
    ("vllm", "err_maxtok", Kind::ContextLength, Some("context_length_exceeded"), Some("max_tokens")),
    ("vllm", "err_model", Kind::NotFound, Some("model_not_found"), Some("model")),
    ("vllm", "err_stream_logprobs", Kind::Invalid, None, Some("logprobs")),
    ("vllm", "err_type", Kind::Invalid, None, Some("body.messages")),
    ("vllm", "err_utf8", Kind::Invalid, None, None),
    ("vllm", "err_validation", Kind::Invalid, None, Some("temperature")),
    ("vllm", "vision_embed_dimensions", Kind::Invalid, None, None),
    ("vllm", "vision_embed_err_base64", Kind::Invalid, None, None),
    ("vllm", "vision_embed_err_broken", Kind::Invalid, None, None),
    ("vllm", "vision_embed_err_chat", Kind::Unsupported, Some("unsupported"), None),
    ("vllm", "vision_embed_err_empty", Kind::Invalid, None, None),
    ("vllm", "vision_embed_err_image_text", Kind::Invalid, None, None),
    ("vllm", "vision_embed_err_long", Kind::ContextLength, Some("context_length_exceeded"), Some("input_tokens")),
    ("vllm", "vision_embed_err_truncated", Kind::Invalid, None, None),
    ("vllm", "vision_embed_err_two_images", Kind::Invalid, None, Some("image")),
    ("vllm", "vision_err_bad_base64", Kind::Invalid, None, None),
    ("vllm", "vision_err_context", Kind::ContextLength, Some("context_length_exceeded"), None),
    ("vllm", "vision_err_data_not_base64", Kind::Unsupported, Some("unsupported"), None),
    ("vllm", "vision_err_data_text", Kind::Invalid, None, None),
    ("vllm", "vision_err_domain_not_allowed", Kind::Invalid, None, None),
    ("vllm", "vision_err_empty_url", Kind::Invalid, None, None),
    // It says 500 of these two, and would say so for ever.
    ("vllm", "vision_err_file", Kind::Invalid, None, None),
    ("vllm", "vision_err_http_private_refused", Kind::Invalid, None, None),
    ("vllm", "vision_err_http_not_image", Kind::Invalid, None, None),
    ("vllm", "vision_err_no_scheme", Kind::Invalid, None, None),
    ("vllm", "vision_err_not_image", Kind::Invalid, None, None),
    ("vllm", "vision_err_string_url", Kind::Invalid, None, None),
    ("vllm", "vision_err_text_only_model", Kind::Invalid, None, None),
    ("vllm", "vision_err_text_only_model_stream", Kind::Invalid, None, None),
    ("vllm", "vision_err_too_many_images", Kind::Invalid, None, Some("image")),
    ("llama-server", "err_404", Kind::NotFound, None, None),
    ("llama-server", "err_405", Kind::NotFound, None, None),
    ("llama-server", "err_ctx", Kind::ContextLength, Some("context_length_exceeded"), None),
    ("llama-server", "err_embeddings", Kind::Unsupported, Some("unsupported"), None),
    // What it says of broken JSON is that it has failed itself: a house checks the JSON before.
    ("llama-server", "err_json", Kind::Upstream, None, None),
    ("llama-server", "err_type", Kind::Invalid, None, None),
    ("llama-server", "err_utf8", Kind::Upstream, None, None),
];
/// It answers these, and the names say what vLLM does.
const ANSWERS: &[&str] = &["err_maxtok", "err_model", "err_stream_logprobs", "err_validation"];

#[tokio::test]
async fn every_refusal_has_its_kind_its_code_and_its_field() {
    for (of, name, kind, code, param) in REFUSALS {
        let server = server(&recording(of, name)).await;
        for (how, llm) in [("replayed", replay(&file(of, name))), ("over a socket", host(&server))] {
            for error in [llm.chat("?").await.unwrap_err(), streamed(&llm, "?".into()).await.unwrap_err()] {
                assert_eq!(error.kind(), *kind, "{of}/{name} {how}: {error:?}");
                assert_eq!((error.get_code(), error.get_param()), (*code, *param), "{of}/{name} {how}: {error:?}");
                let words = error.message();
                assert!(!words.is_empty() && !words.contains("HTTP/"), "{of}/{name} {how}: {error}");
            }
        }
    }
}

#[tokio::test]
async fn a_stream_whose_engine_died_is_what_was_said_and_then_an_error() {
    let server = server(&recording("vllm", "broken_stream")).await;
    for (how, llm) in [("replayed", replay(&file("vllm", "broken_stream"))), ("over a socket", host(&server))] {
        let mut stream = llm.stream("?").await.unwrap();
        let error = loop {
            match stream.next().await {
                Ok(Some(_)) => {}
                Ok(None) => panic!("{how}: it ended as if all were well"),
                Err(error) => break error,
            }
        };
        assert_eq!((error.kind(), stream.so_far().text.as_str()), (Kind::Upstream, "1 2 3"), "{how}: {error:?}");
        assert!(error.message().starts_with("EngineCore encountered an issue"), "{how}: {error}");
    }
}

#[tokio::test]
async fn no_refusal_is_forgotten() {
    for server in SERVERS {
        for entry in std::fs::read_dir(recordings(server)).unwrap() {
            let name = entry.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned();
            let is_listed = REFUSALS.iter().any(|row| row.0 == server && row.1 == name);
            let is_answer = server == "llama-server" && ANSWERS.contains(&name.as_str());
            let is_refusal = name.starts_with("err_") || name.contains("_err_");
            assert!(!is_refusal || is_listed != is_answer, "{server}/{name}");
        }
    }
    for name in ANSWERS {
        assert_eq!(replay(&file("llama-server", name)).chat("?").await.unwrap().text, PARIS);
    }
}

#[tokio::test]
async fn streams_over_a_socket_are_the_streams_that_were_replayed() {
    for of in SERVERS {
        for name in [
            "chat_stream",
            "chat_stream_usage",
            "chat_stream_cont_usage",
            "chat_tools_auto_stream",
            "chat_tools_named_stream",
        ] {
            let server = server(&recording(of, name)).await;
            let there = streamed(&host(&server), "?".into()).await.unwrap();
            let here = streamed(&replay(&file(of, name)), "?".into()).await.unwrap();
            assert_eq!(
                (&here.text, here.usage, &here.finish_reason),
                (&there.text, there.usage, &there.finish_reason),
                "{of}/{name}"
            );
            assert_eq!(
                serde_json::to_value(&here.tool_calls).unwrap(),
                serde_json::to_value(&there.tool_calls).unwrap(),
                "{of}/{name}"
            );
            assert!(!here.text.is_empty() || !here.tool_calls.is_empty(), "{of}/{name}");
        }
    }
}
