//! What an engine is told: the model's file and how much of the machine it may use. Everything but the file has a default.

use crate::llama::{Model, ModelKind, Shape};
use crate::{defaults, gguf};
use llama_cpp_sys_2 as sys;
use llm_core::gateway::dotenv::Environment;
use llm_core::{Error, Kind, Result};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Sequences of a batch of texts to embed; more gain nothing, as the batch is full by then.
const EMBED_SEQUENCES: u32 = 64;
/// Rows of one decode: where prompts are read fastest on CPUs (64 to 1024 lie within 5 %).
const BATCH: u32 = 512;
/// What an answer may span unless told otherwise; models trained on more would take gigabytes for one sequence.
const CONTEXT: u32 = 8192;

/// Settings of one engine, that is of one model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The GGUF file. Without one it is a default model.
    pub path: Option<PathBuf>,
    /// Which default model, by its role or name: `chat`, `embedding`. Default: `chat`.
    #[serde(rename = "default")]
    pub role: Option<String>,
    /// Tokens that a prompt and its answer may have together. Default: what the model was trained on, at most 8192.
    pub context: Option<u32>,
    /// Answers made at once; more wait. Eight share the cost of reading the weights and still feel quick on a CPU.
    pub slots: u32,
    /// Requests that may wait for a slot before the engine says that it is overloaded. A queue in front keeps better order;
    /// this only bounds memory.
    pub waiting: u32,
    /// Memory in MiB for what the slots remember (KV cache). Default: enough for all slots, at most a 32nd of the machine's
    /// memory, and at least enough for one full context. When it runs out the youngest answer waits and is computed again.
    pub cache_mib: Option<u32>,
    /// Threads that compute. Default: every CPU this process may use.
    pub threads: Option<u32>,
    /// Layers to put on the GPU, in builds for one. Default: all of them.
    pub gpu_layers: Option<u32>,
    /// Makes an embedding engine of a model whose file does not say that it is one.
    pub pooling: Option<Pooling>,
    /// A Jinja chat template in place of the file's own.
    pub chat_template: Option<String>,
    /// Temperature of requests that name none. Default: OpenAI's 1, and 0 for a default model, which is small and rambles.
    pub temperature: Option<f32>,
    /// Tokens of an answer to a request that names no limit. Default: what the context has left, and 1024 for a default
    /// model, which may never come to an end by itself.
    pub max_tokens: Option<u32>,
}

/// How the vectors of a text's tokens become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Pooling {
    /// Their mean.
    Mean,
    /// The first token's.
    Cls,
    /// The last token's.
    Last,
}

impl Pooling {
    fn number(self) -> i32 {
        match self {
            Pooling::Mean => sys::LLAMA_POOLING_TYPE_MEAN,
            Pooling::Cls => sys::LLAMA_POOLING_TYPE_CLS,
            Pooling::Last => sys::LLAMA_POOLING_TYPE_LAST,
        }
    }
}

impl Default for Config {
    fn default() -> Config {
        Config {
            path: None,
            role: None,
            context: None,
            slots: 8,
            waiting: 256,
            cache_mib: None,
            threads: None,
            gpu_layers: None,
            pooling: None,
            chat_template: None,
            temperature: None,
            max_tokens: None,
        }
    }
}

impl Config {
    /// Everything that is wrong without a look at the model.
    pub fn check(&self) -> Result<()> {
        self.model()?;
        // llama.cpp's LLAMA_MAX_SEQ.
        bounded("slots", self.slots, 1, 256)?;
        bounded("waiting", self.waiting, 0, 65_536)?;
        bounded("context", self.context.unwrap_or(CONTEXT), 16, 1 << 22)?;
        bounded("threads", self.threads.unwrap_or(1), 1, 512)?;
        bounded("max_tokens", self.max_tokens.unwrap_or(1), 1, 1 << 22)?;
        bounded("cache_mib", self.cache_mib.unwrap_or(1), 1, 1 << 22)
    }

    /// The default model that is meant; `None` when there is a path.
    fn model(&self) -> Result<Option<&'static defaults::Model>> {
        match (&self.path, self.role.as_deref()) {
            (Some(_), Some(_)) => Err(Error::config("says one model and `path` another").at("default")),
            (Some(_), None) => Ok(None),
            (None, role) => default_model(role.unwrap_or("chat")).map(Some),
        }
    }

    /// Where the model lies.
    ///
    /// # Errors
    /// `NotFound` for a default model that was not fetched yet; it names the command that does.
    pub fn file(&self) -> Result<PathBuf> {
        match (&self.path, self.model()?) {
            (Some(path), _) => Ok(path.clone()),
            (None, Some(model)) => store()?.require(model),
            (None, None) => Err(Error::config("is missing").at("path")),
        }
    }

    /// What the model is called, for lists: the file's name without its ending.
    pub(crate) fn name(&self) -> Result<String> {
        let file = self.model()?.map(|model| PathBuf::from(model.file)).or(self.path.clone()).unwrap_or_default();
        Ok(file.file_stem().unwrap_or_default().to_string_lossy().into_owned())
    }

    pub(crate) fn default_temperature(&self) -> Option<f32> {
        self.temperature.or(self.path.is_none().then_some(0.0))
    }

    pub(crate) fn default_max_tokens(&self) -> Option<u32> {
        self.max_tokens.or(self.path.is_none().then_some(1024))
    }

    /// What the context of this model is made with.
    pub(crate) fn shape(&self, model: &Model) -> Result<Shape> {
        let threads = self.threads.map_or_else(cpus, |threads| threads as usize) as i32;
        match self.pooling(model)? {
            Some(pooling) => Ok(embedding_shape(self.window(model), threads, pooling)),
            None => self.generating_shape(model, threads),
        }
    }

    /// The pooling of an embedding engine; `None` makes one that generates.
    fn pooling(&self, model: &Model) -> Result<Option<Pooling>> {
        let told = model.header().pooling.map(|told| match told {
            gguf::Pooling::First => Ok(Pooling::Cls),
            gguf::Pooling::Last => Ok(Pooling::Last),
            gguf::Pooling::Mean => Ok(Pooling::Mean),
            gguf::Pooling::Rank => Err(unsupported("rerankers")),
        });
        let pooling = self.pooling.map(Ok).or(told).transpose()?;
        match (pooling, model.kind()) {
            (_, ModelKind::Both) => Err(unsupported("encoder-decoder models (T5)")),
            (None, ModelKind::Encoder) => Ok(Some(Pooling::Mean)),
            (pooling, _) => Ok(pooling),
        }
    }

    /// Tokens of one sequence.
    pub(crate) fn window(&self, model: &Model) -> u32 {
        self.context.unwrap_or(CONTEXT).min(model.header().context_length.max(1))
    }

    fn generating_shape(&self, model: &Model, threads: i32) -> Result<Shape> {
        let window = self.window(model);
        let cells = self.cells(model, window);
        refuse_too_much(u64::from(cells) * model.bytes_per_token())?;
        Ok(Shape { cells, batch: BATCH, sequences: self.slots, threads, pooling: None })
    }

    fn cells(&self, model: &Model, window: u32) -> u32 {
        let budget =
            self.cache_mib.map_or_else(|| memory("MemTotal").unwrap_or(16 << 30) / 32, |mib| u64::from(mib) << 20);
        let affordable = budget / model.bytes_per_token().max(1);
        let cells = (u64::from(window) * u64::from(self.slots)).min(affordable).max(u64::from(window));
        // llama.cpp rounds up to 256 too; a pool beyond 2^22 cells has no use and hangs while it is made.
        (cells.min(1 << 22) as u32).next_multiple_of(256)
    }
}

/// An encoder must see a text whole, so a batch has room for the longest.
fn embedding_shape(window: u32, threads: i32, pooling: Pooling) -> Shape {
    let batch = window.max(BATCH);
    Shape {
        cells: batch.next_multiple_of(256),
        batch,
        sequences: EMBED_SEQUENCES,
        threads,
        pooling: Some(pooling.number()),
    }
}

fn default_model(name: &str) -> Result<&'static defaults::Model> {
    defaults::Model::find(name).ok_or_else(|| {
        let roles: Vec<_> = defaults::MODELS.iter().map(|model| model.role).collect();
        Error::config(format!("there is no default model {name}; there are {}", roles.join(", "))).at("default")
    })
}

/// The user's folder of models, where the environment says it is.
fn store() -> Result<defaults::Store> {
    let environment = Environment::of_process()?;
    defaults::Store::from_env(|name| environment.get(name))
}

fn bounded(field: &str, value: u32, least: u32, most: u32) -> Result<()> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    Err(Error::config(format!("must be {least} to {most}")).at(field))
}

fn unsupported(what: &str) -> Error {
    Error::new(Kind::Unsupported, format!("the engine does not run {what}; serve it with vLLM"))
}

fn cpus() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Linux hands out memory it does not have and kills later; better to say so now.
fn refuse_too_much(bytes: u64) -> Result<()> {
    match memory("MemAvailable") {
        Some(free) if bytes > free => Err(Error::new(
            Kind::Unavailable,
            format!("the slots' memory would take {} MiB and {} are free; lower `context`", bytes >> 20, free >> 20),
        )),
        _ => Ok(()),
    }
}

/// A line of /proc/meminfo in bytes; `None` where there is none.
fn memory(line: &str) -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|all| all.strip_prefix(line)?.strip_prefix(':'))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_out_of_range_names_itself() {
        let error = Config { slots: 0, ..Config::default() }.check().unwrap_err();
        assert_eq!(error.to_string(), "slots: must be 1 to 256");
        assert!(Config::default().check().is_ok());
    }

    #[test]
    fn a_model_is_a_path_or_a_default_and_not_both() {
        assert_eq!(Config::default().name().unwrap(), "SmolLM2-135M-Instruct.F16");
        let path = Config { path: Some("models/a.gguf".into()), ..Config::default() };
        assert_eq!(path.name().unwrap(), "a");
        let both = Config { role: Some("chat".into()), ..path };
        assert_eq!(both.check().unwrap_err().to_string(), "default: says one model and `path` another");
        let unknown = Config { role: Some("poet".into()), ..Config::default() };
        assert_eq!(
            unknown.check().unwrap_err().to_string(),
            "default: there is no default model poet; there are chat, embedding"
        );
    }

    #[test]
    fn unknown_settings_are_refused() {
        let error = serde_json::from_str::<Config>(r#"{"path": "a.gguf", "contxt": 1}"#).unwrap_err();
        assert!(error.to_string().contains("contxt"), "{error}");
    }
}
