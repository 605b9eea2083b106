//! Our own providers are put to the kit's checks, as anybody's can be: the fake, the hosts, the recordings and the engine.
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::ready;
use llm_core::provider::{PROVIDERS, fake, fake::Fake, hosts};
use llm_core::testkit::{Served, Subject};
use llm_core::{
    BoxFuture, Call, ChatRequest, EmbedRequest, Event, Frame, Kind, Operation, Operations, Provider, Reply, Result,
};
use llm_engine::{Config, EngineProvider};

fn provider(name: &str, settings: &str) -> Arc<dyn Provider> {
    let kind = PROVIDERS.iter().find(|kind| kind.name == name).expect("a provider of ours");
    (kind.build)(&settings.parse().unwrap()).unwrap()
}

/// Says "It is Paris, I think." in a tenth of a second.
fn slow() -> Arc<Fake> {
    Arc::new(Fake::new(fake::Config { says: "It is Paris, I think.".into(), each_ms: 20, ..fake::Config::default() }))
}

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

#[tokio::test]
async fn the_fake_conforms() {
    let fake = slow();
    Subject::new(&*fake)
        .says("It is Paris, I think.")
        .asked_for_long("?")
        .running(|| fake.running())
        .conforms()
        .await
        .unwrap();
}

/// Keeps to itself what an answer cost.
struct Silent(Arc<Fake>);

impl Provider for Silent {
    fn call<'a>(&'a self, call: &'a Call) -> BoxFuture<'a, Result<Reply>> {
        let is_told = |frame: &Result<Frame>| ready(!matches!(frame, Ok(Frame::Event(Event::Usage(_)))));
        Box::pin(async move { Ok(self.0.call(call).await?.map(|frames| frames.filter(is_told).boxed())) })
    }

    fn inner(&self) -> Option<&dyn Provider> {
        Some(&*self.0)
    }
}

/// Every kind that needs a base URL is a host; whether it conforms shows in front of a server that does.
#[tokio::test]
async fn every_host_conforms() {
    let refusing = Served::start(Arc::new(Fake::says("never").after_failures(u32::MAX))).await;
    for (kind, row) in PROVIDERS.iter().filter_map(|kind| Some((kind, hosts::find(kind.name)?))) {
        let fake = slow();
        // The stand-in tells what an answer cost to those who ask; where nobody may ask, it never tells.
        let behind: Arc<dyn Provider> = if row.tells_usage { fake.clone() } else { Arc::new(Silent(fake.clone())) };
        let server = Served::in_place_of(row, behind).await;
        let host = provider(kind.name, &format!("base_url = '{}'", server.url()));
        let mut subject = Subject::new(&*host).model("m").running(move || fake.running());
        if host.serves().contains(Operation::Chat) {
            subject = subject.says("It is Paris, I think.").asked_for_long("?");
        }
        subject.conforms().await.unwrap_or_else(|complaints| panic!("{}: {complaints}", kind.name));
        let refused = provider(kind.name, &format!("base_url = '{}'", refusing.url()));
        let question = ChatRequest::new("something that nobody else should ever read").model("m");
        // What a host cannot do, nobody refuses.
        let kind = |operation| if refused.serves().contains(operation) { Kind::Upstream } else { Kind::Unsupported };
        let subject = Subject::new(&*refused).only([]).refuses(question, kind(Operation::Chat));
        subject.refuses(EmbedRequest::new(["a"]), kind(Operation::Embed)).conforms().await.unwrap();
    }
}

#[tokio::test]
async fn recordings_conform() {
    for host in ["vllm", "llama-server"] {
        let replay = provider("replay", &format!("recordings = '{}'", repository("recordings").join(host).display()));
        Subject::new(&*replay)
            .model("tiny")
            .only([Operation::Chat, Operation::Models])
            .says("The capital of France is Paris.")
            .conforms()
            .await
            .unwrap_or_else(|complaints| panic!("{host}: {complaints}"));
    }
}

#[tokio::test]
async fn the_engine_conforms() {
    let path = Some(repository("models/tiny-chat-f16.gguf"));
    let engine =
        EngineProvider::new(Config { path, context: Some(2048), threads: Some(2), ..Config::default() }).unwrap();
    engine.life().unwrap().load().await.unwrap();
    let long = ChatRequest::new("Tell me a long story.").temperature(0.0).max_tokens(1500).extra("ignore_eos", true);
    let too_long = ChatRequest::new("The capital of France is Paris. ".repeat(400));
    Subject::new(&engine)
        .only([Operation::Chat, Operation::Tokenize, Operation::Models])
        .says("The capital of France is Paris.")
        .asked_for_long(long)
        .running(|| engine.running())
        .refuses(too_long, Kind::ContextLength)
        .conforms()
        .await
        .unwrap();
}

#[tokio::test]
async fn the_engine_conforms_with_a_model_that_embeds() {
    let config = Config { role: Some("embedding".into()), threads: Some(2), ..Config::default() };
    let engine = EngineProvider::new(config).unwrap();
    engine.life().unwrap().load().await.unwrap();
    Subject::new(&engine)
        .only([Operation::Embed, Operation::Tokenize, Operation::Models])
        .refuses(ChatRequest::new("something that nobody else should ever read"), Kind::Unsupported)
        .refuses(EmbedRequest::new(["word ".repeat(9000)]), Kind::ContextLength)
        .conforms()
        .await
        .unwrap();
}

/// What providers get wrong, one promise each: the checks bite.
#[derive(Clone, Copy, Debug)]
enum Wrong {
    OtherWords,
    TwoFinishes,
    NoFinish,
    WordsAfterItsFinish,
    CostOnlyWhole,
    OtherKind,
    TellsThePrompt,
    GoesOn,
}

struct Bad(Wrong, Arc<Fake>);

impl Provider for Bad {
    fn call<'a>(&'a self, call: &'a Call) -> BoxFuture<'a, Result<Reply>> {
        Box::pin(self.answer(call))
    }
}

impl Bad {
    async fn answer(&self, call: &Call) -> Result<Reply> {
        use llm_core::{Error, Event::*, FinishReason::Stop};
        let question = call.chat()?.last_text();
        let is_whole = call.delivery == llm_core::Delivery::Whole;
        if question.starts_with("refuse") {
            return Err(match self.0 {
                Wrong::OtherKind => Error::new(Kind::Internal, "no"),
                Wrong::TellsThePrompt => Error::invalid(format!("no: {question}")),
                _ => Error::invalid("no"),
            });
        }
        if matches!(self.0, Wrong::GoesOn) && question == "long" {
            // The work is somebody else's, and nobody tells him.
            let (fake, call) = (self.1.clone(), call.clone());
            tokio::spawn(async move { drop(fake.call(&call).await.unwrap().chat().await) });
            return self.1.call(&Call::new(ChatRequest::new("?"), llm_core::Delivery::Stream)).await;
        }
        let text = |words: &str| Text(words.into());
        let events = match (self.0, is_whole) {
            (Wrong::OtherWords, false) => vec![text("Rome"), Finish(Stop)],
            (Wrong::TwoFinishes, false) => vec![text("Paris"), Finish(Stop), Finish(Stop)],
            (Wrong::NoFinish, false) => vec![text("Paris")],
            (Wrong::WordsAfterItsFinish, false) => vec![text("Par"), Finish(Stop), text("is")],
            (Wrong::CostOnlyWhole, true) => {
                vec![text("Paris"), Finish(Stop), Usage(llm_core::Usage { completion_tokens: 1, ..Default::default() })]
            }
            _ => vec![text("Paris"), Finish(Stop)],
        };
        let frames = events.into_iter().map(|event| Ok(Frame::Event(event)));
        Reply::begun(Box::pin(futures_util::stream::iter(frames.collect::<Vec<_>>()))).await
    }
}

#[tokio::test]
async fn the_checks_bite() {
    for (wrong, complaint) in [
        (Wrong::OtherWords, "it streams \"Rome\", and says \"Paris\" whole"),
        (Wrong::TwoFinishes, "it finishes 2 times"),
        (Wrong::NoFinish, "it finishes 0 times"),
        (Wrong::WordsAfterItsFinish, "it says something after its finish"),
        (Wrong::CostOnlyWhole, "it tells what an answer cost, both ways or never"),
        (Wrong::OtherKind, "instead of Invalid"),
        (Wrong::TellsThePrompt, "the prompt stands in the error"),
        (Wrong::GoesOn, "it went on for"),
    ] {
        let fake = slow();
        let bad = Bad(wrong, fake.clone());
        let subject = Subject::new(&bad).says("Paris").asked_for_long("long").running(move || fake.running());
        let subject = subject
            .stops_within(Duration::from_millis(4))
            .refuses(ChatRequest::new("refuse this, whatever it may be"), Kind::Invalid);
        let complaints = subject.conforms().await.unwrap_err().to_string();
        assert!(complaints.contains(complaint), "{wrong:?}: {complaints}");
    }
}

/// Muddles all that is no answer in words.
struct Muddled;

impl Provider for Muddled {
    fn call<'a>(&'a self, call: &'a Call) -> BoxFuture<'a, Result<Reply>> {
        use llm_core::{Embeddings, Ranked, Ranking, Request, Tokens};
        let place = |index, relevance_score| Ranked { index, relevance_score, ..Ranked::default() };
        Box::pin(async move {
            Ok(Reply::of(match call.request()? {
                Request::Embed(request) => {
                    let number = request.input.len();
                    let vector = |place| (0..3).map(|i| if i == (place + number) % 3 { 1.0 } else { 0.0 }).collect();
                    Frame::Vectors(Embeddings { vectors: (0..number).map(vector).collect(), ..Embeddings::default() })
                }
                Request::Rerank(_) => {
                    Frame::Ranking(Ranking { results: vec![place(0, 0.1), place(1, 0.9)], ..Ranking::default() })
                }
                Request::Tokenize(_) => Frame::Tokens(Tokens { count: 7, ..Tokens::default() }),
                Request::Models => Frame::Models(Vec::new()),
                _ => return Ok(Reply::says("Paris")),
            }))
        })
    }

    fn serves(&self) -> Operations {
        [Operation::Embed, Operation::Rerank, Operation::Tokenize, Operation::Models].into()
    }
}

#[tokio::test]
async fn the_checks_of_what_is_no_chat_bite_too() {
    let complaints = Subject::new(&Muddled).conforms().await.unwrap_err().to_string();
    for complaint in [
        "it answers chat, which it says it does not serve",
        "alone and among others a text has vectors with a cosine of 0",
        "its order is not that of its scores",
        "7 for a short text, 7 for a longer one",
        "it lists its models: []",
    ] {
        assert!(complaints.contains(complaint), "{complaint}: {complaints}");
    }
}
