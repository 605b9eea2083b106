//! A request's further fields in Ollama's words: formats, thinking, and its own options.
use serde_json::{Map, Value};

use crate::call::Sampling;
use crate::dialect::fields::Fields;
use crate::dialect::openai::read;
use crate::dialect::openai::write::{json, put};
use crate::error::{Error, Result};

/// Options beyond those of [`Sampling`], which may stand beside `options` too.
const OPTIONS: &[&str] = &[
    "num_ctx",
    "num_batch",
    "num_gpu",
    "main_gpu",
    "num_thread",
    "num_keep",
    "num_predict",
    "draft_num_predict",
    "use_mmap",
    "numa",
    "typical_p",
    "repeat_last_n",
    "repeat_penalty",
    "penalize_newline",
    "mirostat",
    "mirostat_tau",
    "mirostat_eta",
];
/// Fields of its requests that our nouns have no place for.
const OWN: &[&str] = &["keep_alive", "think", "format", "truncate", "shift", "suffix", "raw", "system", "template"];
/// What changes no answer is left out without a word.
const QUIET: &[&str] = &[
    "stream_options",
    "user",
    "metadata",
    "store",
    "service_tier",
    "safety_identifier",
    "prompt_cache_key",
    "parallel_tool_calls",
];

/// Sampling and further fields, for a host. What it may not know is passed on and named among the warnings.
pub(super) fn write(
    body: &mut Map<String, Value>,
    extra: &Map<String, Value>,
    sampling: &Sampling,
    warnings: &mut Vec<String>,
) -> Result<()> {
    // A prompt that is too long is an error, as everywhere else: by itself Ollama forgets its beginning and says nothing.
    body.insert("truncate".into(), false.into());
    let mut options = given(extra)?;
    for (name, value) in extra.iter().filter(|(name, value)| !value.is_null() && *name != "options") {
        match name.as_str() {
            "response_format" => drop(format(value)?.map(|format| body.insert("format".into(), format))),
            "reasoning_effort" => drop(body.insert("think".into(), effort(value))),
            "chat_template_kwargs" => thinking(body, value, warnings),
            "logprobs" => logprobs(body, value),
            "top_logprobs" => drop(body.insert(name.clone(), value.clone())),
            name if OPTIONS.contains(&name) => drop(options.insert(name.into(), value.clone())),
            name if OWN.contains(&name) => drop(body.insert(name.into(), value.clone())),
            name if QUIET.contains(&name) => {}
            name => {
                warnings.push(format!("Ollama may not know `{name}`, which is passed on as it is"));
                body.insert(name.into(), value.clone());
            }
        }
    }
    if !sampling.logit_bias.is_empty() {
        warnings.push("Ollama has no word for `logit_bias`: it was left out".into());
    }
    put_sampling(&mut options, sampling)?;
    if !options.is_empty() {
        body.insert("options".into(), options.into());
    }
    Ok(())
}

fn given(extra: &Map<String, Value>) -> Result<Map<String, Value>> {
    match extra.get("options") {
        None | Some(Value::Null) => Ok(Map::new()),
        Some(Value::Object(options)) => Ok(options.clone()),
        Some(_) => Err(Error::invalid("`options` must be an object").param("options")),
    }
}

fn put_sampling(options: &mut Map<String, Value>, s: &Sampling) -> Result<()> {
    put(options, "num_predict", &s.max_tokens)?;
    put(options, "temperature", &s.temperature)?;
    put(options, "top_p", &s.top_p)?;
    put(options, "top_k", &s.top_k)?;
    put(options, "min_p", &s.min_p)?;
    put(options, "seed", &s.seed.map(|seed| seed as i64))?;
    put(options, "presence_penalty", &s.presence_penalty)?;
    put(options, "frequency_penalty", &s.frequency_penalty)?;
    put(options, "repeat_penalty", &s.repetition_penalty)?;
    if !s.stop.is_empty() {
        options.insert("stop".into(), json(&s.stop)?);
    }
    Ok(())
}

fn format(response_format: &Value) -> Result<Option<Value>> {
    let schema = || response_format.pointer("/json_schema/schema").filter(|schema| schema.is_object()).cloned();
    let wrong = |what: String| Error::invalid(what).param("response_format");
    match response_format["type"].as_str() {
        Some("text") => Ok(None),
        Some("json_object") => Ok(Some("json".into())),
        Some("json_schema") => {
            schema().map(Some).ok_or_else(|| wrong("`response_format` has no schema in `json_schema.schema`".into()))
        }
        _ => Err(wrong("`response_format.type` must be text, json_object or json_schema".into())),
    }
}

/// OpenAI's words for it, of which `none` and `minimal` are not Ollama's.
fn effort(value: &Value) -> Value {
    match value.as_str() {
        Some("none") => false.into(),
        Some("minimal") => "low".into(),
        Some("xhigh") => "max".into(),
        _ => value.clone(),
    }
}

fn thinking(body: &mut Map<String, Value>, kwargs: &Value, warnings: &mut Vec<String>) {
    for (name, value) in kwargs.as_object().into_iter().flatten() {
        match name.as_str() {
            "enable_thinking" | "thinking" => drop(body.insert("think".into(), value.clone())),
            name => {
                warnings.push(format!("Ollama has no word for `chat_template_kwargs.{name}`: it was left out"));
            }
        }
    }
}

/// A chat says whether, a completion how many.
fn logprobs(body: &mut Map<String, Value>, value: &Value) {
    body.insert("logprobs".into(), (value != &Value::Bool(false)).into());
    if value.is_u64() {
        body.insert("top_logprobs".into(), value.clone());
    }
}

/// A client's fields in our nouns, but for those that only an Ollama knows: these are named among what was lost.
pub(super) fn read(fields: &mut Fields, lost: &mut Vec<String>) -> Result<(Sampling, Map<String, Value>)> {
    let mut options: Map<String, Value> = fields.take("options")?.unwrap_or_default();
    options.retain(|_, value| !value.is_null());
    rename(&mut options, "repeat_penalty", "repetition_penalty");
    rename(&mut options, "num_predict", "max_tokens");
    if options.get("max_tokens").and_then(Value::as_i64).is_some_and(|n| n <= 0) {
        options.remove("max_tokens"); // -1 is without end, -2 fills the context
    }
    let mut options = Fields::new(options);
    let sampling = read::sampling(&mut options)?;
    let mut names: Vec<String> = options.rest().keys().map(|name| format!("options.{name}")).collect();
    let mut extra = Map::new();
    match fields.take::<Value>("format")? {
        Some(Value::String(word)) if word.is_empty() => {}
        Some(Value::String(_)) => {
            drop(extra.insert("response_format".into(), serde_json::json!({"type": "json_object"})))
        }
        Some(schema) => drop(extra.insert("response_format".into(), as_response_format(schema))),
        None => {}
    }
    match fields.take::<Value>("think")? {
        Some(Value::Bool(think)) => {
            extra.insert("chat_template_kwargs".into(), serde_json::json!({"enable_thinking": think}));
        }
        Some(level) => drop(extra.insert("reasoning_effort".into(), level)),
        None => {}
    }
    for name in ["keep_alive", "truncate", "shift", "template", "context"] {
        names.extend(fields.take::<Value>(name)?.map(|_| name.to_owned()));
    }
    if !names.is_empty() {
        lost.push(format!("only an Ollama knows {}: left out", names.join(", ")));
    }
    Ok((sampling, extra))
}

fn rename(options: &mut Map<String, Value>, from: &str, to: &str) {
    if let Some(value) = options.remove(from) {
        options.insert(to.into(), value);
    }
}

fn as_response_format(schema: Value) -> Value {
    serde_json::json!({"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}})
}
