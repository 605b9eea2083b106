//! The verbs over providers that say what a test wants.
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

use super::*;

/// Answers with these events in turn, and remembers what it was asked.
#[derive(Default, Clone)]
struct Scripted {
    answers: Arc<Mutex<Vec<Vec<Event>>>>,
    asked: Arc<Mutex<Vec<ChatRequest>>>,
}

impl Scripted {
    fn new(answers: impl IntoIterator<Item = Vec<Event>>) -> Scripted {
        let mut answers: Vec<_> = answers.into_iter().collect();
        answers.reverse();
        Scripted { answers: Arc::new(Mutex::new(answers)), ..Scripted::default() }
    }
}

impl Provider for Scripted {
    fn call<'a>(&'a self, call: &'a Call) -> BoxFuture<'a, Result<Reply>> {
        Box::pin(async move {
            self.asked.lock().unwrap().push(call.chat()?.clone());
            let events = self.answers.lock().unwrap().pop().expect("the script has an answer left");
            let frames = events.into_iter().map(|e| Ok(Frame::Event(e)));
            Reply::begun(Box::pin(futures_util::stream::iter(frames))).await
        })
    }
}

fn says(text: &str) -> Vec<Event> {
    let usage = Usage { prompt_tokens: 10, completion_tokens: 2, ..Usage::default() };
    vec![Event::Text(text.into()), Event::Finish(FinishReason::Stop), Event::Usage(usage)]
}

fn calls(list: &[(&str, &str)]) -> Vec<Event> {
    let call = |(i, (name, arguments)): (usize, &(&str, &str))| {
        Event::ToolCall(json!({"index": i, "id": format!("c{i}"), "function": {"name": name, "arguments": arguments}}))
    };
    let usage = Usage { prompt_tokens: 10, completion_tokens: 5, ..Usage::default() };
    let end = [Event::Finish(FinishReason::ToolCalls), Event::Usage(usage)];
    list.iter().enumerate().map(call).chain(end).collect()
}

fn weather() -> Tool {
    let schema = json!({"type": "object", "properties": {"city": {"type": "string"}}});
    Tool::new("weather", "The weather in a city", schema, async |arguments: Value| match arguments["city"].as_str() {
        Some(city) => Ok(format!("rain in {city}")),
        None => Err(Error::invalid("`city` is missing")),
    })
}

#[tokio::test]
async fn a_model_calls_tools_until_it_has_its_answer() {
    let script = Scripted::new([
        calls(&[("weather", r#"{"city":"Paris"}"#), ("weather", "{}"), ("stocks", "{}"), ("weather", "not json")]),
        says("Take an umbrella."),
    ]);
    let run = Llm::of(script.clone()).unwrap().chat_with("Paris?", &[weather()], 3).await.unwrap();
    assert_eq!(run.reply.text, "Take an umbrella.");
    assert_eq!((run.usage.prompt_tokens, run.usage.completion_tokens), (20, 7));
    let results: Vec<_> = run.messages.iter().filter(|m| m.role == Role::Tool).collect();
    let told: Vec<_> = results.iter().map(|m| m.content.text()).collect();
    assert_eq!(told[..3], ["rain in Paris", "error: `city` is missing", "error: no such tool; there are weather"]);
    assert!(told[3].starts_with("error: the model called `weather` with arguments that do not fit: "), "{}", told[3]);
    assert_eq!(results[0].extra["tool_call_id"], "c0");
    let asked = script.asked.lock().unwrap();
    assert_eq!(asked[0].tools[0]["function"]["name"], "weather");
    let second = serde_json::to_value(&asked[1].messages).unwrap();
    assert_eq!(
        second[1]["tool_calls"][0],
        json!({"id": "c0", "type": "function", "function": {"name": "weather", "arguments": "{\"city\":\"Paris\"}"}})
    );
    assert_eq!(second[1]["content"], Value::Null);
}

#[tokio::test]
async fn a_model_that_never_stops_calling_tools_is_stopped() {
    let script = Scripted::new((0..3).map(|_| calls(&[("weather", "{}")])));
    let error = Llm::of(script.clone()).unwrap().chat_with("Paris?", &[weather()], 3).await.unwrap_err();
    assert_eq!(error.to_string(), "the model still calls tools after 3 steps");
    assert_eq!(script.asked.lock().unwrap().len(), 3);
}

#[tokio::test]
async fn an_answer_is_read_as_json_and_a_cut_one_says_so() {
    let cut = vec![Event::Text("{\"a\":".into()), Event::Finish(FinishReason::Length)];
    let llm = Llm::of(Scripted::new([says("```json\n{\"a\": 1}\n```"), says("sorry"), cut])).unwrap();
    let ask = || ChatRequest::new("?").schema("x", json!({"type": "object"}));
    assert_eq!(llm.chat(ask()).await.unwrap().json::<Value>().unwrap()["a"], 1);
    let wrong = llm.chat(ask()).await.unwrap().json::<Value>().unwrap_err();
    assert_eq!((wrong.kind(), wrong.message()), (Kind::Upstream, "the answer is not the JSON that was asked for"));
    let cut = llm.chat(ask()).await.unwrap().json::<Value>().unwrap_err();
    assert_eq!(cut.message(), "max_tokens cut the JSON off");
}

/// Vectors that tell which text they belong to; refuses texts that say `bad`, and counts how many calls it has at once.
#[derive(Default, Clone)]
struct Vectors {
    now: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
    length: Arc<AtomicUsize>,
}

impl Provider for Vectors {
    fn call<'a>(&'a self, call: &'a Call) -> BoxFuture<'a, Result<Reply>> {
        Box::pin(async move {
            let Request::Embed(request) = call.request()? else { return Err(Error::invalid("?")) };
            self.most.fetch_max(self.now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            let first: f32 = request.input[0].parse().unwrap_or(0.0);
            // The later a batch, the sooner it is done.
            tokio::time::sleep(Duration::from_millis(5000 - first as u64)).await;
            self.now.fetch_sub(1, Ordering::SeqCst);
            if request.input.iter().any(|text| text == "bad") {
                return Err(Error::invalid("a bad text"));
            }
            let extra = self.length.fetch_add(0, Ordering::SeqCst) * usize::from(first > 0.0);
            let vector = |text: &String| [vec![text.parse().unwrap_or(-1.0)], vec![0.0; extra]].concat();
            let vectors = request.input.iter().map(vector).collect();
            let usage = Some(Usage { prompt_tokens: request.input.len() as u32, ..Usage::default() });
            Ok(Reply::of(Frame::Vectors(Embeddings { vectors, usage, ..Embeddings::default() })))
        })
    }
    fn serves(&self) -> Operations {
        Operation::Embed.into()
    }
}

#[tokio::test(start_paused = true)]
async fn vectors_of_64_batches_of_32_texts_keep_their_order() {
    let vectors = Vectors::default();
    let answer = Llm::of(vectors.clone()).unwrap().embed(EmbedRequest::new((0..2048).map(|i| i.to_string()))).await;
    let answer = answer.unwrap();
    assert!(answer.vectors.iter().enumerate().all(|(i, v)| v[0] == i as f32));
    assert_eq!((answer.usage.unwrap().prompt_tokens, vectors.most.load(Ordering::SeqCst)), (2048, 8));
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_fails_says_which() {
    let texts = (0..100).map(|i| if i == 70 { "bad".to_owned() } else { i.to_string() });
    let error = Llm::of(Vectors::default()).unwrap().embed(EmbedRequest::new(texts)).await.unwrap_err();
    assert_eq!((error.kind(), error.to_string().as_str()), (Kind::Invalid, "input[64..96]: a bad text"));
}

#[tokio::test(start_paused = true)]
async fn vectors_of_two_lengths_are_never_mixed() {
    let vectors = Vectors::default();
    vectors.length.store(3, Ordering::SeqCst);
    let texts = EmbedRequest::new((0..40).map(|i| i.to_string()));
    let error = Llm::of(vectors).unwrap().embed(texts).await.unwrap_err();
    assert_eq!(error.to_string(), "the vectors have 1 and 4 dimensions: two models answer to one name");
}

fn fake() -> Llm {
    Llm::new(
        &Config::from_toml("[models.all]\nprovider = 'fake'\n[models.talks]\nprovider = 'fake'\noperations = ['chat']")
            .unwrap(),
    )
    .unwrap()
}

#[tokio::test]
async fn documents_are_ordered_and_scored() {
    let documents = ["Rust is a language", "what cats eat is mice", "cats sleep"];
    let ranking = fake().rerank("what cats eat", documents).await.unwrap();
    assert_eq!(ranking.results.iter().map(|r| r.index).collect::<Vec<_>>(), [1, 2, 0]);
    let best = fake().rank(RerankRequest::new("what cats eat", documents).top_n(1)).await.unwrap();
    assert_eq!(best.results.len(), 1);
    let scores = fake().score(ScoreRequest::new(["cats eat"], ["cats eat", "dogs bark"])).await.unwrap().scores;
    assert!((scores[0] - 1.0).abs() < 1e-6 && scores[1] == 0.0, "{scores:?}");
}

#[tokio::test]
async fn what_a_model_cannot_names_who_can() {
    let request = RerankRequest::new("q", ["d"]).model("talks");
    let error = fake().rank(request).await.unwrap_err();
    assert_eq!((error.kind(), error.message()), (Kind::Unsupported, "talks cannot rerank; models that can: all"));
}

#[tokio::test]
async fn an_answer_tells_how_long_it_took() {
    let slow = "[models.a]\nprovider = 'fake'\nsays = 'one two'\nfirst_ms = 20\neach_ms = 20";
    let llm = Llm::new(&Config::from_toml(slow).unwrap()).unwrap();
    let timings = llm.chat("?").await.unwrap().timings;
    assert!(timings.first >= Duration::from_millis(20) && timings.total >= timings.first + Duration::from_millis(20));
    let mut stream = llm.stream("?").await.unwrap();
    while stream.next().await.unwrap().is_some() {}
    assert!(stream.so_far().timings.total > stream.so_far().timings.first);
}

#[tokio::test]
async fn the_wait_in_line_is_told_to_those_who_waited() {
    let narrow = "[models.a]\nprovider = 'fake'\nsays = 'one two'\neach_ms = 20\nqueue = { limit = 1 }";
    let llm = Llm::new(&Config::from_toml(narrow).unwrap()).unwrap();
    let (first, second, third) = tokio::join!(llm.chat("?"), llm.chat("?"), llm.stream("?"));
    let (first, second) = (first.unwrap().timings, second.unwrap().timings);
    assert_eq!(first.queued, Duration::ZERO);
    let third = third.unwrap().so_far().timings;
    for waited in [second, third] {
        assert!(waited.queued >= Duration::from_millis(20) && waited.queued <= waited.first, "{waited:?}");
    }
}

#[tokio::test]
async fn images_go_to_the_model_that_sees() {
    let text = "default_model = 'talks'\n[models.talks]\nprovider = 'fake'\nsays = 'I talk'\n[models.sees]\nprovider = 'fake'\nsays = 'a cat '\nvision = true";
    let llm = Llm::new(&Config::from_toml(text).unwrap()).unwrap();
    assert_eq!(llm.caption(Image::url("data:image/png;base64,AAAA")).await.unwrap(), "a cat");
    assert_eq!(llm.chat("hello").await.unwrap().text, "I talk");
}

/// Says what a text-only vLLM says of images.
struct Blind;

impl Provider for Blind {
    fn call<'a>(&'a self, _: &'a Call) -> BoxFuture<'a, Result<Reply>> {
        Box::pin(async { Err(Error::invalid("tiny is not a multimodal model")) })
    }
}

#[tokio::test]
async fn a_model_that_reads_text_only_tells_how_to_name_one_that_sees() {
    let error = Llm::of(Blind).unwrap().ocr(Image::url("data:,")).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Unsupported);
    assert!(error.message().contains("VISION_PROVIDER"), "{error}");
}

#[tokio::test]
async fn configured_dimensions_are_held_to() {
    let llm = |n: u32| {
        Llm::new(&Config::from_toml(&format!("[models.a]\nprovider = 'fake'\ndimensions = {n}")).unwrap()).unwrap()
    };
    let length = fake().embed("x").await.unwrap().vectors[0].len() as u32;
    assert!(llm(length).embed("x").await.is_ok());
    let error = llm(length + 1).embed("x").await.unwrap_err();
    assert_eq!((error.kind(), error.get_code()), (Kind::Upstream, Some("wrong_dimensions")));
}
