//! The routes, and the one handler behind those that ask a model.
use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use axum::Router;
use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodFilter, on};
use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderValue};
use http::{Method, StatusCode};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::service::Service;
use hyper_util::service::TowerToHyperService;
use llm_core::dialect::{self, DIALECTS, Dialect};
use llm_core::{Error, Gateway, Kind, Operation, Result};
use serde_json::Value;

use crate::ask::{self, Door, Question, REQUEST_ID};
use crate::asked::Asked;
use crate::keys::Keys;
use crate::proxies::{IsTrusted, Proxies};
use crate::{Config, Telemetry, cors, models, ollama, refusal};

/// What every handler needs.
pub(crate) struct App {
    pub(crate) gateway: Arc<Gateway>,
    pub(crate) telemetry: Arc<Telemetry>,
    pub(crate) config: Config,
    pub(crate) keys: ArcSwap<Keys>,
    pub(crate) proxies: Proxies,
    pub(crate) is_draining: AtomicBool,
    /// It has stopped, and answers have had the time that they are given.
    pub(crate) is_over: Arc<AtomicBool>,
    pub(crate) since: u64,
}

impl App {
    /// # Errors
    /// `Config`, if the file of keys is wrong, or a proxy has no address.
    pub(crate) fn new(gateway: Arc<Gateway>, telemetry: Arc<Telemetry>, config: Config) -> Result<Arc<App>> {
        let keys = ArcSwap::from_pointee(Keys::of(&config)?);
        let proxies = Proxies::of(&config).map_err(|e| e.at("server"))?;
        let since = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
        let (is_draining, is_over) = Default::default();
        Ok(Arc::new(App { gateway, telemetry, config, keys, proxies, is_draining, is_over, since }))
    }

    /// What these headers say that matters here.
    pub(crate) fn asked<'h>(&self, headers: &'h HeaderMap) -> Asked<'h> {
        Asked::of(self.proxies.user_header(), headers)
    }

    /// Who asks: the name of the key, or whom a trusted proxy names; nobody in particular where there is neither.
    ///
    /// # Errors
    /// `Unauthorized`.
    pub(crate) fn caller(&self, asked: &Asked<'_>, peer: IsTrusted) -> Result<Option<Arc<str>>> {
        let named = self.keys.load().caller(asked.key())?;
        Ok(if peer == IsTrusted(true) { named.or_else(|| self.proxies.caller(asked)) } else { named })
    }

    /// Whether a page may ask, if it is one.
    ///
    /// # Errors
    /// `Unauthorized`.
    fn opens_for_page(&self, headers: &HeaderMap, peer: IsTrusted) -> Result<()> {
        let is_guarded = peer == IsTrusted(true) || !self.keys.load().are_open();
        if is_guarded { Ok(()) } else { cors::may_ask(&self.config.cors, headers) }
    }

    /// Whether a request carries a key; one that does not is noted.
    ///
    /// # Errors
    /// `Unauthorized`.
    pub(crate) fn opens_for(&self, request: &Request) -> Result<()> {
        let asked = self.asked(request.headers());
        let peer = request.extensions().get().copied().unwrap_or(IsTrusted(false));
        let refused = |error: &Error| {
            self.telemetry.refused(asked.id().unwrap_or_default(), request.uri().path(), error);
        };
        let page = || self.opens_for_page(request.headers(), peer);
        self.keys.load().caller(asked.key()).map(drop).and_then(|()| page()).inspect_err(refused)
    }
}

/// Who answers on a port. Questions go straight to their handler: the router with its boxes costs a small one a
/// twentieth of its time, and is for all the rest.
#[derive(Clone)]
pub(crate) struct Routes {
    app: Option<Arc<App>>, // none where nothing is asked of a model
    router: Router,
    is_shared: bool, // with pages of other origins
    peer: IsTrusted,
}

impl Routes {
    /// # Errors
    /// `Config` for an origin that is none.
    pub(crate) fn api(app: Arc<App>) -> Result<Routes> {
        let (router, cors) = (router(app.clone()), cors::layer(&app.config.cors)?);
        let is_shared = cors.is_some();
        let router = if let Some(cors) = cors { router.layer(cors) } else { router };
        Ok(Routes { router, app: Some(app), is_shared, peer: IsTrusted(false) })
    }

    pub(crate) fn metrics(app: Arc<App>) -> Routes {
        Routes { app: None, router: metrics_router(app), is_shared: false, peer: IsTrusted(false) }
    }

    /// Who answers questions for models, if they are answered here.
    pub(crate) fn models(&self) -> Option<&Arc<App>> {
        self.app.as_ref()
    }

    /// For a connection from there.
    pub(crate) fn from(&self, peer: IpAddr) -> Routes {
        let peer = self.app.as_ref().map_or(IsTrusted(false), |app| app.proxies.trust(peer));
        Routes { peer, ..self.clone() }
    }

    pub(crate) fn peer(&self) -> IsTrusted {
        self.peer
    }

    pub(crate) async fn answer(
        self,
        mut request: http::Request<Incoming>,
    ) -> std::result::Result<Response, Infallible> {
        request.extensions_mut().insert(self.peer);
        let is_foreign = self.is_shared && cors::is_foreign(request.headers());
        match (self.app, asked(request.method().as_str(), request.uri().path())) {
            (Some(app), Some(door)) if !is_foreign => Ok(answer(app, door, request.map(Body::new)).await),
            _ => {
                // Whoever stands behind this finds the id in the request, made or taken over.
                let id = ask::id_of(&Asked::of(None, request.headers()));
                let id = HeaderValue::try_from(id).unwrap_or_else(|_| HeaderValue::from_static("-")); // it is graphic
                request.headers_mut().insert(REQUEST_ID, id.clone());
                let mut response = TowerToHyperService::new(self.router).call(request).await?;
                response.headers_mut().insert(REQUEST_ID, id);
                Ok(response)
            }
        }
    }
}

/// Which question is asked here, if it is one for a model.
pub(crate) fn asked(method: &str, path: &str) -> Option<Door> {
    let doors =
        || DIALECTS.iter().flat_map(|&dialect| dialect.doors().iter().map(move |&(of, path)| (of, path, dialect)));
    let mut questions = doors().filter(|(operation, ..)| *operation != Operation::Models);
    questions.find(|(_, known, _)| *known == path && method == "POST")
}

/// The API: every path of every dialect, and what operators ask.
fn router(app: Arc<App>) -> Router {
    let mut router = Router::new();
    for &dialect in DIALECTS {
        for &(operation, path) in dialect.doors() {
            let door = (operation, path, dialect);
            let ask = move |State(app): State<Arc<App>>, request: Request| answer(app, door, request);
            let list = move |State(app): State<Arc<App>>, request: Request| list_models(app, dialect, request);
            router = router.route(
                path,
                match operation {
                    Operation::Models => on(MethodFilter::GET, list),
                    _ => on(MethodFilter::POST, ask),
                },
            );
        }
    }
    let get = MethodFilter::GET;
    router
        .route("/v1/models/{*id}", on(get, one_model))
        .route("/health", on(get, health))
        .route("/healthz", on(get, health))
        .route("/ready", on(get, ready))
        .route("/metrics", on(get, metrics_with_key))
        .merge(ollama::routes())
        .fallback(no_route)
        .method_not_allowed_fallback(no_method)
        .with_state(app)
}

/// The second address: metrics and health, for a scraper that has no key.
fn metrics_router(app: Arc<App>) -> Router {
    let get = MethodFilter::GET;
    let router = Router::new().route("/metrics", on(get, metrics)).route("/health", on(get, health));
    router.route("/ready", on(get, ready)).fallback(no_route).with_state(app)
}

async fn answer(app: Arc<App>, door: Door, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let asked = app.asked(&head.headers);
    let peer = head.extensions.get().copied().unwrap_or(IsTrusted(false));
    let caller = app.opens_for_page(&head.headers, peer).and_then(|()| app.caller(&asked, peer));
    let body = match &caller {
        Ok(_) => collect(&app.config, &head.headers, body).await,
        Err(error) => Err(error.clone()),
    };
    Question::new(door, &asked, caller.unwrap_or_default()).answered(&app, body).await.into()
}

pub(crate) async fn collect(config: &Config, headers: &HeaderMap, body: Body) -> Result<Bytes> {
    let too_large = || {
        let message = format!("the body is longer than {} bytes", config.max_body);
        Error::invalid(message).code("body_too_large")
    };
    let length = headers.get(CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse::<usize>().ok());
    if length.is_some_and(|length| length > config.max_body) {
        return Err(too_large());
    }
    let slow = |_| ask::slow_body();
    let whole = Limited::new(body, config.max_body).collect();
    match tokio::time::timeout(Duration::from_secs(config.body_timeout_s), whole).await.map_err(slow)? {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(too_large()),
        Err(_) => Err(Error::invalid("the body broke off")),
    }
}

async fn list_models(app: Arc<App>, dialect: &'static dyn Dialect, request: Request) -> Response {
    let key = app.opens_for(&request);
    let listed = key.and_then(|()| models::list(&app.gateway, dialect, app.since));
    listed.map_or_else(|e| refusal::response(dialect, &e), |bytes| in_json(StatusCode::OK, bytes))
}

/// A name that is no text is nobody's, as any other that is not known.
async fn one_model(
    State(app): State<Arc<App>>,
    id: std::result::Result<Path<String>, PathRejection>,
    request: Request,
) -> Response {
    guarded(&app, &request, || {
        let known = || app.gateway.models().into_iter().map(|m| m.id).collect::<Vec<_>>().join(", ");
        let missing =
            || Error::new(Kind::NotFound, format!("no such model; there are: {}", known())).code("model_not_found");
        let Path(id) = id.map_err(|_| missing())?;
        let card = models::one(&app.gateway, &id, app.since).ok_or_else(missing)?;
        Ok(json(StatusCode::OK, &serde_json::json!(card)))
    })
}

async fn health() -> Response {
    json(StatusCode::OK, &serde_json::json!({"status": "ok"}))
}

async fn ready(State(app): State<Arc<App>>) -> Response {
    let (is_ready, mut body) = models::ready(&app.gateway);
    let is_draining = app.is_draining.load(Ordering::Relaxed);
    body["draining"] = is_draining.into();
    body["ready"] = (is_ready && !is_draining).into();
    json(if is_ready && !is_draining { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, &body)
}

async fn metrics(State(app): State<Arc<App>>) -> Response {
    exposition(&app)
}

async fn metrics_with_key(State(app): State<Arc<App>>, request: Request) -> Response {
    guarded(&app, &request, || Ok(exposition(&app)))
}

fn exposition(app: &App) -> Response {
    let kind = HeaderValue::from_static("text/plain; version=0.0.4");
    ([(CONTENT_TYPE, kind)], app.telemetry.exposition(&app.gateway)).into_response()
}

async fn no_route(request: Request) -> Response {
    let path: String = request.uri().path().chars().take(100).collect();
    let error = Error::new(Kind::NotFound, format!("no such route: {} {path}", request.method()));
    refusal::response(dialect_of(&path), &error.code("route_not_found"))
}

async fn no_method(request: Request) -> Response {
    let meant = if request.method() == Method::GET { "POST" } else { "another method" };
    let message = format!("{} is not the method of {}: use {meant}", request.method(), request.uri().path());
    refusal::response(dialect_of(request.uri().path()), &Error::invalid(message).code("method_not_allowed"))
}

/// Whose client asks for this path: the first word of it tells.
fn dialect_of(path: &str) -> &'static dyn Dialect {
    let first = |path: &str| path.split('/').nth(1).unwrap_or_default().to_owned();
    let knows = |dialect: &&&'static dyn Dialect| dialect.doors().iter().any(|(_, door)| first(door) == first(path));
    DIALECTS.iter().find(knows).copied().unwrap_or(dialect::openai())
}

/// For those who have the key, or when there is none.
fn guarded(app: &App, request: &Request, answer: impl FnOnce() -> Result<Response>) -> Response {
    app.opens_for(request).and_then(|()| answer()).unwrap_or_else(|e| refuse(&e))
}

fn refuse(error: &Error) -> Response {
    refusal::response(dialect::openai(), error)
}

pub(crate) fn json(status: StatusCode, body: &Value) -> Response {
    in_json(status, body.to_string())
}

fn in_json(status: StatusCode, body: impl Into<Body>) -> Response {
    (status, [(CONTENT_TYPE, HeaderValue::from_static("application/json"))], body.into()).into_response()
}
