//! The engine as a provider: a call becomes tokens, goes to the engine's thread, and comes back as frames.

use crate::config::Config;
use crate::embed::Vectors;
use crate::engine::{Engine, Prompt};
use crate::generate::Answer;
use crate::life::Life;
use crate::request;
use futures_util::StreamExt;
use llm_core::provider::{Kind as Provided, settings};
use llm_core::{
    BoxFuture, Call, ChatRequest, CompleteRequest, EmbedRequest, Embeddings, Error, Frame, Kind, ModelInfo, Operation,
    Operations, Provider, Reply, Request, Result, TokenizeRequest, Tokens, Usage,
};
use std::sync::Arc;

/// The registration: `provider = "engine"`, with the settings of [`Config`].
pub const KIND: Provided = Provided {
    name: "engine",
    about: "llama.cpp in this process, for GGUF files",
    build,
    defaults: llm_core::provider::defaults::<Config>,
};

fn build(table: &toml::Table) -> Result<Arc<dyn Provider>> {
    Ok(Arc::new(EngineProvider::new(settings(table)?)?))
}

/// llama.cpp in this process, answering for one model. Building one loads nothing.
pub struct EngineProvider {
    life: Life,
    name: String,
    slots: usize,
}

/// What a question has led to by the time its blocking part is done.
enum Begun {
    Answer(Answer),
    Vectors(Vectors, u32),
    Done(Frame),
}

impl EngineProvider {
    /// A provider for this configuration.
    ///
    /// # Errors
    /// `Config`, when a setting is out of range or the file is missing; its place names the setting.
    pub fn new(config: Config) -> Result<EngineProvider> {
        config.check()?;
        let name = config.name()?;
        let slots = config.slots as usize;
        Ok(EngineProvider { life: Life::new(config), name, slots })
    }

    /// How many answers are being made right now.
    pub fn running(&self) -> usize {
        self.life.engine_if_ready().map_or(0, |engine| engine.running())
    }

    /// How many more requests it would take on right now, to run or to wait.
    pub fn places(&self) -> usize {
        self.life.engine_if_ready().map_or(0, |engine| engine.places())
    }

    async fn answer(&self, call: &Call) -> Result<Reply> {
        let engine = self.life.engine_for(&call.context).await?;
        if call.operation == Operation::Models {
            return Ok(Reply::of(Frame::Models(vec![self.info(&engine)])));
        }
        let call = call.clone();
        // Templates and tokenizers take milliseconds, for long texts a second: not on the thread that serves everybody.
        let begun = tokio::task::spawn_blocking(move || begin(&engine, call.request()?)).await;
        match begun.map_err(|e| Error::new(Kind::Internal, "reading the prompt panicked").because(e))?? {
            Begun::Answer(answer) => Reply::begun(answer.map(|event| event.map(Frame::Event)).boxed()).await,
            Begun::Vectors(vectors, tokens) => Ok(Reply::of(Frame::Vectors(embedded(vectors, tokens).await?))),
            Begun::Done(frame) => Ok(Reply::of(frame)),
        }
    }

    fn info(&self, engine: &Engine) -> ModelInfo {
        ModelInfo { id: self.name.clone(), max_model_len: Some(engine.window() as u32), ..ModelInfo::default() }
    }
}

impl Provider for EngineProvider {
    fn call<'a>(&'a self, call: &'a Call) -> BoxFuture<'a, Result<Reply>> {
        Box::pin(self.answer(call))
    }

    fn serves(&self) -> Operations {
        // Whether a file chats or embeds is known when it is loaded; until then it may be asked for both.
        use Operation::*;
        [Chat, Complete, Embed, Tokenize, Detokenize, Models].into()
    }

    fn width(&self) -> Option<usize> {
        Some(self.slots)
    }

    fn life(&self) -> Option<&dyn llm_core::Life> {
        Some(&self.life)
    }
}

fn begin(engine: &Engine, request: &Request) -> Result<Begun> {
    match request {
        Request::Chat(chat) => begin_chat(engine, chat),
        Request::Complete(complete) => begin_completion(engine, complete),
        Request::Embed(embed) => begin_embedding(engine, embed),
        Request::Tokenize(tokenize) => Ok(Begun::Done(Frame::Tokens(tokens(engine, tokenize)?))),
        Request::Detokenize(detokenize) => Ok(Begun::Done(Frame::Text(engine.detokenize(&detokenize.tokens)?))),
        other => Err(Error::new(Kind::Unsupported, format!("the engine cannot {}", other.operation()))),
    }
}

fn begin_chat(engine: &Engine, chat: &ChatRequest) -> Result<Begun> {
    let wish = request::chat(chat)?;
    request::refuse_tools(&chat.tools, &chat.extra)?;
    let prompt = engine.render(request::messages(&chat.messages)?, &[], request::kwargs(&chat.extra)?)?;
    Ok(Begun::Answer(engine.ask(engine.prepare(prompt, &wish)?)?))
}

fn begin_completion(engine: &Engine, complete: &CompleteRequest) -> Result<Begun> {
    let wish = request::complete(complete)?;
    let prompt = Prompt { tokens: engine.tokenize(&complete.prompt, true), stops: Vec::new() };
    Ok(Begun::Answer(engine.ask(engine.prepare(prompt, &wish)?)?))
}

fn begin_embedding(engine: &Engine, embed: &EmbedRequest) -> Result<Begun> {
    request::refuse_what_is_no_text(embed)?;
    if embed.dimensions.is_some_and(|dimensions| dimensions as usize != engine.dimensions()) {
        let why = format!("this model's vectors have {} dimensions and cannot be shortened", engine.dimensions());
        return Err(Error::new(Kind::Unsupported, why).param("dimensions"));
    }
    let texts: Vec<_> = embed.input.iter().map(|text| engine.tokenize(text, true)).collect();
    let tokens = texts.iter().map(Vec::len).sum::<usize>() as u32;
    Ok(Begun::Vectors(engine.embed(texts)?, tokens))
}

async fn embedded(vectors: Vectors, tokens: u32) -> Result<Embeddings> {
    let usage = Usage { prompt_tokens: tokens, ..Usage::default() };
    Ok(Embeddings { vectors: vectors.await?, usage: Some(usage), ..Embeddings::default() })
}

fn tokens(engine: &Engine, tokenize: &TokenizeRequest) -> Result<Tokens> {
    let tokens = match &tokenize.prompt {
        llm_core::Prompt::Text(text) => engine.tokenize(text, tokenize.add_special_tokens),
        llm_core::Prompt::Chat(messages) => {
            let tools =
                tokenize.extra.get("tools").and_then(serde_json::Value::as_array).map_or(&[][..], Vec::as_slice);
            let messages = request::messages(messages)?;
            engine.render(messages, tools, request::kwargs(&tokenize.extra)?)?.tokens
        }
    };
    let tokens: Vec<u32> = tokens.into_iter().map(|token| token as u32).collect();
    Ok(Tokens { count: tokens.len(), max_model_len: Some(engine.window() as u32), tokens, ..Tokens::default() })
}
