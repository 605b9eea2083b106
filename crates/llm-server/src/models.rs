//! The list of models as clients read it: OpenAI's fields, and those that other clients look for beside them.
use bytes::{Bytes, BytesMut};
use llm_core::dialect::Dialect;
use llm_core::{Call, Delivery, Frame, Gateway, ModelInfo, ModelStatus, Request, Result};
use serde_json::{Map, Value, json};

/// `GET /v1/models`, and what other dialects have in its place.
pub(crate) fn list(gateway: &Gateway, dialect: &dyn Dialect, since: u64) -> Result<Bytes> {
    let models = shown(gateway).map(|model| card(&model, since)).collect();
    let mut writer = dialect.writer(&Call::new(Request::Models, Delivery::Whole));
    let mut out = BytesMut::new();
    writer.write(Frame::Models(models), &mut out)?;
    writer.end(&mut out)?;
    Ok(out.freeze())
}

/// `GET /v1/models/{id}`, by name or alias.
pub(crate) fn one(gateway: &Gateway, id: &str, since: u64) -> Option<ModelInfo> {
    let named = shown(gateway).find(|m| m.id == id || m.aliases.iter().any(|a| a == id));
    // An Ollama lists `llama3:latest`, and is asked for `llama3`.
    let is_listed = |m: &ModelStatus| m.id.strip_suffix(":latest") == Some(id) && !gateway.router().has(&m.id);
    named.or_else(|| shown(gateway).find(is_listed)).map(|model| card(&model, since))
}

/// Whether some model takes requests, and what each one says.
pub(crate) fn ready(gateway: &Gateway) -> (bool, Value) {
    let models = gateway.models();
    let is_ready = models.iter().any(|m| m.status == "ready");
    let told = |m: &ModelStatus| {
        json!({
            "id": m.id, "status": m.status, "progress": m.progress, "reason": m.reason, "deployments": m.deployments,
        })
    };
    (is_ready, json!({"ready": is_ready, "models": models.iter().map(told).collect::<Vec<_>>()}))
}

/// The model of any name is not one that a client could ask for.
fn shown(gateway: &Gateway) -> impl Iterator<Item = ModelStatus> {
    gateway.models().into_iter().filter(|m| m.id != llm_core::route::router::ANY)
}

/// The window under every name that some client reads: editors size their prompts by it.
const WINDOWS: [&str; 4] = ["context_length", "context_window", "max_context_length", "max_input_tokens"];

fn card(model: &ModelStatus, since: u64) -> ModelInfo {
    let fields = [
        ("object", json!("model")),
        ("created", since.into()),
        ("owned_by", "llm".into()),
        ("aliases", json!(model.aliases)),
        ("capabilities", json!(model.operations)),
        ("specialization", json!(model.specialization)),
        ("running", model.running.into()),
        ("waiting", model.waiting.into()),
        ("deployments", json!(model.deployments)),
        ("status", json!({"value": model.status, "progress": model.progress, "reason": model.reason})),
    ];
    // Where it is not known, there is no field: clients take a null for a number, or for none at all. And no `meta`, from which
    // some conclude that they speak with llama-server.
    let window = model.max_model_len.into_iter().flat_map(|window| WINDOWS.map(|name| (name, Value::from(window))));
    let all = fields.into_iter().chain(window);
    let extra: Map<String, Value> = all.map(|(name, value)| (name.to_owned(), value)).collect();
    ModelInfo { id: model.id.clone(), max_model_len: model.max_model_len, extra }
}
