//! A loaded model, its thread, and what can be asked of it.

use crate::aboard::Aboard;
use crate::chat::Chat;
use crate::config::Config;
use crate::embed::{self, Texts, Vectors};
use crate::generate::{self, Answer, Ask, Job};
use crate::llama::{Abort, Context, Model, Shape, Special, Token};
use crate::logprobs::Wanted;
use crate::sampler::{Sampler, endings};
use llm_core::{Error, Kind, Result, Sampling};
use serde_json::{Map, Value};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::{SyncSender, sync_channel};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How requests reach the thread that owns the model's context. When the last one is dropped and all answers are given, the
/// thread ends and the memory is free.
pub(crate) struct Engine {
    model: Arc<Model>,
    chat: Option<Chat>,
    window: usize,
    cells: u64,
    task: Task,
    places: Arc<Semaphore>,
    default_temperature: Option<f32>,
    default_max_tokens: Option<u32>,
}

enum Task {
    Generate { inbox: SyncSender<Job>, abort: Arc<Abort>, running: Arc<AtomicUsize> },
    Embed { inbox: SyncSender<Texts>, aboard: Arc<Aboard>, running: Arc<AtomicUsize> },
}

/// The other end: what the thread runs.
pub(crate) enum Work {
    Generate(generate::Worker),
    Embed(embed::Worker),
}

impl Work {
    pub(crate) fn run(self) {
        match self {
            Work::Generate(worker) => worker.run(),
            Work::Embed(worker) => worker.run(),
        }
    }
}

impl Engine {
    /// Loads the model; `progress` hears 0.0 to 1.0 and says whether to go on. Takes seconds, on a thread of its own.
    pub(crate) fn load(config: &Config, progress: impl FnMut(f32) -> bool + 'static) -> Result<(Engine, Work)> {
        config.check()?;
        let model = Arc::new(Model::load(&config.file()?, config.gpu_layers, progress)?);
        let shape = config.shape(&model)?;
        let chat = Chat::new(&model, config.chat_template.as_deref())?;
        let context = Context::new(&model, &shape)?;
        let (task, work) = task(&model, context, &shape, config);
        let places = Arc::new(Semaphore::new(places(config)));
        let window = config.window(&model) as usize;
        Ok((
            Engine {
                model,
                chat,
                window,
                cells: shape.cells.into(),
                task,
                places,
                default_temperature: config.default_temperature(),
                default_max_tokens: config.default_max_tokens(),
            },
            work,
        ))
    }

    /// Tokens that a prompt and its answer may have together.
    pub(crate) fn window(&self) -> usize {
        self.window
    }

    /// Length of its vectors.
    pub(crate) fn dimensions(&self) -> usize {
        self.model.dimensions()
    }

    /// Bytes of its weights and of what its slots remember.
    pub(crate) fn memory(&self) -> u64 {
        self.model.bytes() + self.cells * self.model.bytes_per_token()
    }

    pub(crate) fn embeds(&self) -> bool {
        matches!(self.task, Task::Embed { .. })
    }

    /// How many more requests it would take on.
    pub(crate) fn places(&self) -> usize {
        self.places.available_permits()
    }

    /// Answers being made right now.
    pub(crate) fn running(&self) -> usize {
        let (Task::Generate { running, .. } | Task::Embed { running, .. }) = &self.task;
        running.load(Relaxed)
    }

    /// The prompt that the model's chat template makes of a conversation, and the texts that end its answers.
    pub(crate) fn render(
        &self,
        messages: Value,
        tools: &[Value],
        kwargs: Option<&Map<String, Value>>,
    ) -> Result<Prompt> {
        let chat = self.chat.as_ref().ok_or_else(|| unable("chat", "its file has no chat template"))?;
        let rendered = chat.render(messages, tools, kwargs)?;
        // llama.cpp takes the template's own BOS away when the tokenizer adds one.
        let tokens = self.model.tokenize(&rendered.prompt, Special::Added);
        Ok(Prompt { tokens, stops: rendered.stops })
    }

    /// A text's tokens. `special` adds the tokenizer's own first and last tokens.
    pub(crate) fn tokenize(&self, text: &str, special: bool) -> Vec<Token> {
        let special = if special { Special::Added } else { Special::Left };
        self.model.tokenize(text, special)
    }

    pub(crate) fn detokenize(&self, tokens: &[u32]) -> Result<String> {
        let known = |token: &u32| Token::try_from(*token).ok().filter(|token| self.model.knows(*token));
        let bytes: Option<Vec<Vec<u8>>> = tokens.iter().map(|token| Some(self.model.spelling(known(token)?))).collect();
        let bytes = bytes.ok_or_else(|| Error::invalid("`tokens` has an id outside the vocabulary").param("tokens"))?;
        Ok(String::from_utf8_lossy(&bytes.concat()).into_owned())
    }

    /// Checks a question and makes it ready for the worker.
    pub(crate) fn prepare(&self, prompt: Prompt, wish: &Wish) -> Result<Ask> {
        if self.embeds() {
            return Err(unable("generate", "it is an embedding model"));
        }
        let limit = self.limit(prompt.tokens.len(), wish.sampling.max_tokens.or(self.default_max_tokens))?;
        let mut stops = wish.sampling.stop.clone();
        stops.extend(prompt.stops);
        Ok(Ask { limit, stops, sampler: self.sampler(wish)?, logprobs: wish.logprobs, prompt: prompt.tokens })
    }

    fn sampler(&self, wish: &Wish) -> Result<Sampler> {
        let temperature = wish.sampling.temperature.or(self.default_temperature);
        let mut sampler = Sampler::new(&Sampling { temperature, ..wish.sampling.clone() }, &self.model)?;
        if wish.ignore_eos {
            sampler.forbid(endings(&self.model).into_iter());
        }
        Ok(sampler)
    }

    /// The most tokens that may be made: what was asked for, or what the context has left.
    fn limit(&self, prompt: usize, asked: Option<u32>) -> Result<usize> {
        match prompt {
            0 => Err(Error::invalid("the prompt has no tokens")),
            _ if prompt >= self.window => Err(too_long(prompt, self.window)),
            _ if asked == Some(0) => Err(Error::invalid("`max_tokens` must be at least 1").param("max_tokens")),
            _ => Ok((self.window - prompt).min(asked.map_or(usize::MAX, |tokens| tokens as usize))),
        }
    }

    /// Hands a question to the worker.
    pub(crate) fn ask(&self, ask: Ask) -> Result<Answer> {
        let Task::Generate { inbox, abort, .. } = &self.task else {
            return Err(unable("generate", "it is an embedding model"));
        };
        let (job, answer) = Job::new(ask, self.place()?, abort);
        inbox.try_send(job).map_err(|_| stopped())?;
        Ok(answer)
    }

    /// Hands texts to the worker, which embeds them in any order and answers in theirs.
    pub(crate) fn embed(&self, texts: Vec<Vec<Token>>) -> Result<Vectors> {
        let Task::Embed { inbox, aboard, .. } = &self.task else {
            return Err(unable("embed", "set `pooling` to make an embedding engine of it"));
        };
        for (index, text) in texts.iter().enumerate() {
            if text.is_empty() || text.len() > self.window {
                return Err(unembeddable(index, text.len(), self.window));
            }
        }
        let (texts, vectors) = Texts::new(texts, self.place()?, aboard);
        inbox.try_send(texts).map_err(|_| stopped())?;
        Ok(vectors)
    }

    fn place(&self) -> Result<OwnedSemaphorePermit> {
        let full = |_| Error::new(Kind::Overloaded, "too many requests wait for this model");
        self.places.clone().try_acquire_owned().map_err(full)
    }
}

/// Tokens to go on from, and texts at which to stop beside the client's own.
pub(crate) struct Prompt {
    pub(crate) tokens: Vec<Token>,
    pub(crate) stops: Vec<String>,
}

/// What a client wishes beside its prompt.
#[derive(Default)]
pub(crate) struct Wish {
    pub(crate) sampling: Sampling,
    pub(crate) logprobs: Option<Wanted>,
    pub(crate) ignore_eos: bool,
}

/// Everyone who has been taken on has a place, so the worker's inbox never overflows.
fn places(config: &Config) -> usize {
    config.slots as usize + config.waiting as usize
}

fn task(model: &Arc<Model>, context: Context, shape: &Shape, config: &Config) -> (Task, Work) {
    if shape.pooling.is_some() {
        let (inbox, asked) = sync_channel(places(config));
        let worker = embed::Worker::new(context, shape, asked);
        return (Task::Embed { inbox, aboard: worker.aboard(), running: worker.running() }, Work::Embed(worker));
    }
    let (inbox, asked) = sync_channel(places(config));
    let abort = context.abort().clone();
    let worker = generate::Worker::new(model.clone(), context, shape, asked);
    (Task::Generate { inbox, abort, running: worker.running() }, Work::Generate(worker))
}

fn unable(what: &str, why: &str) -> Error {
    Error::new(Kind::Unsupported, format!("this model cannot {what}: {why}"))
}

fn stopped() -> Error {
    Error::new(Kind::Unavailable, "the engine has stopped; see its status")
}

fn too_long(tokens: usize, window: usize) -> Error {
    let told = format!("this model's maximum context length is {window} tokens, but the prompt has {tokens}");
    Error::new(Kind::ContextLength, told).param("messages")
}

fn unembeddable(index: usize, tokens: usize, window: usize) -> Error {
    if tokens == 0 {
        return Error::invalid(format!("`input[{index}]` is empty")).param("input");
    }
    let told = format!("`input[{index}]` has {tokens} tokens, and this model's maximum context length is {window}");
    Error::new(Kind::ContextLength, told).param("input")
}
