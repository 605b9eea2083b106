//! What Ollama's clients ask beside questions: whether it runs, which version it is, and what a model is.
use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::response::Response;
use axum::routing::{MethodFilter, on};
use http::StatusCode;
use llm_core::dialect::{Dialect, ollama};
use llm_core::{Error, Kind, Result};
use serde_json::{Value, json};

use crate::api::{App, collect, json as answer};
use crate::{models, refusal};

/// No release of Ollama's: clients that ask whether it is new enough take this one for a build of today.
const VERSION: &str = "0.0.0";

pub(crate) fn routes() -> Router<Arc<App>> {
    let (get, post) = (MethodFilter::GET, MethodFilter::POST);
    Router::new()
        .route("/", on(get, is_running))
        .route("/api/version", on(get, version))
        .route("/api/ps", on(get, running))
        .route("/api/show", on(post, show))
}

/// Its command line asks this before anything else.
async fn is_running() -> &'static str {
    "llm is running"
}

async fn version() -> Response {
    answer(StatusCode::OK, &json!({"version": VERSION}))
}

/// Nobody's client needs to know; those that ask show what it says.
async fn running(State(app): State<Arc<App>>, request: Request) -> Response {
    let is_known = app.opens_for(&request);
    is_known.map_or_else(|e| refuse(&e), |()| answer(StatusCode::OK, &json!({"models": []})))
}

async fn show(State(app): State<Arc<App>>, request: Request) -> Response {
    shown(&app, request).await.map_or_else(|e| refuse(&e), |body| answer(StatusCode::OK, &body))
}

async fn shown(app: &App, request: Request) -> Result<Value> {
    app.opens_for(&request)?;
    let (head, body) = request.into_parts();
    let bytes = collect(&app.config, &head.headers, body).await?;
    let wrong = |e| Error::invalid("the body is not valid JSON").code("invalid_json").because(e);
    let body: Value = serde_json::from_slice(&bytes).map_err(wrong)?;
    let name = ["model", "name"].iter().find_map(|field| body[*field].as_str());
    let name = name.ok_or_else(|| Error::invalid("`model` is missing").param("model"))?;
    let missing = || Error::new(Kind::NotFound, format!("model '{name}' not found")).code("model_not_found");
    Ok(ollama::shown(models::one(&app.gateway, name, app.since).ok_or_else(missing)?))
}

fn refuse(error: &Error) -> Response {
    let dialect: &dyn Dialect = &ollama::Ollama::Chat;
    refusal::response(dialect, error)
}
