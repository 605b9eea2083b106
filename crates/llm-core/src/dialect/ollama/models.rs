//! Lists of models both ways.
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::time;
use crate::call::ModelInfo;

/// A host's model. Its size and the rest stay as they came.
pub(super) fn read(model: Value) -> ModelInfo {
    let Value::Object(extra) = model else { return ModelInfo::default() };
    let id = ["model", "name"].iter().find_map(|field| extra.get(*field)?.as_str()).unwrap_or_default().to_owned();
    let length = extra.get("context_length").and_then(Value::as_u64);
    ModelInfo { id, max_model_len: length.and_then(|length| u32::try_from(length).ok()), extra }
}

/// A model for a client, with every field that clients look into.
pub(super) fn write(model: ModelInfo) -> Value {
    let told = |field: &str| model.extra.get(field).filter(|value| !value.is_null()).cloned();
    let changed = told("created").and_then(|seconds| seconds.as_u64()).unwrap_or(0);
    json!({
        "name": model.id,
        "model": model.id,
        "modified_at": told("modified_at").unwrap_or_else(|| time::written(Duration::from_secs(changed)).into()),
        "size": told("size").unwrap_or_else(|| 0.into()),
        "digest": told("digest").unwrap_or_else(|| digest(&model.id).into()),
        "details": told("details").unwrap_or_else(details),
        "capabilities": capabilities(&model.extra),
        "context_length": model.max_model_len,
    })
}

/// What is said of a model of which no more is known.
pub(super) fn details() -> Value {
    let (family, none) = ("unknown", "");
    json!({"parent_model": none, "format": none, "family": family, "families": [family], "parameter_size": none, "quantization_level": none})
}

/// Clients cut the first twelve digits off and show them.
fn digest(id: &str) -> String {
    let mut hasher = DefaultHasher::new();
    id.hash(&mut hasher);
    format!("{:016x}", hasher.finish()).repeat(4)
}

/// Our operations in Ollama's words; its own stay. Editors offer a model for chats only if it says that it takes tools.
fn capabilities(extra: &Map<String, Value>) -> Vec<Value> {
    let told = extra.get("capabilities").and_then(Value::as_array).cloned().unwrap_or_default();
    let words = told.iter().flat_map(|word| match word.as_str() {
        Some("chat") => vec!["completion".into(), "tools".into()],
        Some("embed") => vec!["embedding".into()],
        Some("complete" | "rerank" | "score" | "tokenize" | "detokenize" | "models") => Vec::new(),
        _ => vec![word.clone()],
    });
    words.collect()
}

/// What `/api/show` tells of a model.
pub(super) fn shown(model: ModelInfo) -> Value {
    let length = model.max_model_len;
    let Value::Object(mut card) = write(model) else { return Value::Null };
    let info = json!({"general.architecture": "llm", "general.basename": card["name"], "llm.context_length": length});
    card.insert("model_info".into(), info);
    for field in ["license", "modelfile", "parameters", "template"] {
        card.insert(field.into(), "".into());
    }
    card.into()
}
