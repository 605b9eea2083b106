//! The list of models as clients read it: OpenAI's fields, and those that other clients look for beside them.
use llm_core::{Gateway, ModelStatus};
use serde_json::{Value, json};

/// `GET /v1/models`.
pub(crate) fn list(gateway: &Gateway, since: u64) -> Value {
    let data: Vec<Value> = shown(gateway).map(|model| card(&model, since)).collect();
    json!({"object": "list", "data": data})
}

/// `GET /v1/models/{id}`, by name or alias.
pub(crate) fn one(gateway: &Gateway, id: &str, since: u64) -> Option<Value> {
    shown(gateway).find(|m| m.id == id || m.aliases.iter().any(|a| a == id)).map(|model| card(&model, since))
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

fn card(model: &ModelStatus, since: u64) -> Value {
    json!({
        "id": model.id,
        "object": "model",
        "created": since,
        "owned_by": "llm",
        "aliases": model.aliases,
        "max_model_len": model.max_model_len,
        "context_length": model.max_model_len,
        "context_window": model.max_model_len,
        "capabilities": model.operations,
        "specialization": model.specialization,
        "running": model.running,
        "waiting": model.waiting,
        "deployments": model.deployments,
        "status": {"value": model.status, "progress": model.progress, "reason": model.reason},
    })
}
