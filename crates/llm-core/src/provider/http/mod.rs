//! A host on the network: asks it in a dialect it speaks, and passes its bytes on.
//!
//! The connection is polled inside the call's own future and body: a task of its own, as in reqwest, would send every
//! chunk through a channel and cost four times as much. HTTP/1.1 is spoken by hand, with httparse for the heads: on a
//! stream hyper's client costs more than all that is done with its bytes. Dropping the call or its reply closes the
//! connection, which is how an upstream learns that nobody waits any more.
mod chunks;
mod connect;
mod events;
mod head;
mod host;
mod inline;
mod pool;
mod proxy;
mod tls;
pub(super) mod tokens;
pub(super) mod top;
mod words;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, PROXY_AUTHORIZATION};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::call::*;
use crate::dialect::Dialect;
use crate::error::{Error, Kind, Result};
use crate::provider::hosts;
use crate::secret::Secret;
use connect::Target;
use head::{Head, Request as Asked};
pub use host::{Host, Own};
use inline::Inline;
use pool::Pool;
use proxy::Proxy;

/// A whole body may be this long, in bytes: 4,096 vectors of 3,072 numbers as text.
const MAX_BODY: usize = 256 << 20;
/// A refusal is read so far, in bytes.
const MAX_REFUSAL: usize = 64 << 10;

/// A host's settings.
///
/// ```
/// use llm_core::{provider::http::Config, secret::Secret};
/// let config = Config { base_url: Some("http://gpu:8000".into()), api_key: Some(Secret::new("k")), ..Config::default() };
/// assert!(!format!("{config:?}").contains("\"k\""));
/// ```
#[derive(Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where it is: `http://host:port`, with or without `/v1`.
    pub base_url: Option<String>,
    /// Sent as `Authorization: Bearer ..`.
    pub api_key: Option<Secret>,
    /// Sent with every request.
    pub headers: BTreeMap<String, String>,
    /// A proxy on the way there: `http://[user:password@]host:port`; empty or `off` for none, whatever the environment
    /// says.
    pub proxy: Option<Secret>,
    /// A PEM file with the authorities of its certificate, trusted beside the system's.
    pub ca_file: Option<PathBuf>,
    /// How long connecting may take, in milliseconds: far from any real time within a site, and short enough to try the next
    /// host.
    pub connect_timeout_ms: u64,
    /// The folder of its Hugging Face model, or a `tokenizer.json`: tokens are then counted here, and it is not asked. It
    /// needs the feature `hf-tokens`.
    pub tokenizer: Option<PathBuf>,
    /// Options of Ollama's, for every request that does not set them itself: `{ num_ctx = 8192 }`.
    pub options: Option<serde_json::Map<String, Value>>,
    /// How long an Ollama keeps the model in its memory after an answer: `"10m"`, or seconds; below 0 for ever.
    pub keep_alive: Option<Value>,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            base_url: None,
            api_key: None,
            headers: BTreeMap::new(),
            proxy: None,
            ca_file: None,
            connect_timeout_ms: 5_000,
            tokenizer: None,
            options: None,
            keep_alive: None,
        }
    }
}

/// Without its secrets.
impl std::fmt::Debug for Config {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let without_user = |url: &String| url.rsplit_once('@').map_or(url.clone(), |(_, host)| format!("***@{host}"));
        f.debug_struct("Config")
            .field("base_url", &self.base_url.as_ref().map(without_user))
            .field("api_key", &self.api_key)
            .field("headers", &self.headers.keys())
            .field("proxy", &self.proxy)
            .field("ca_file", &self.ca_file)
            .field("connect_timeout_ms", &self.connect_timeout_ms)
            .field("tokenizer", &self.tokenizer)
            .field("options", &self.options)
            .field("keep_alive", &self.keep_alive)
            .finish()
    }
}

/// A host that is asked over HTTP.
///
/// ```
/// use llm_core::provider::{hosts, http::{Config, Http}};
/// let vllm = hosts::find("vllm").unwrap();
/// assert!(Http::new(vllm, Config { base_url: Some("http://gpu:8000".into()), ..Config::default() }).is_ok());
/// let error = Http::new(vllm, Config { base_url: Some("gpu".into()), ..Config::default() }).err().unwrap();
/// assert_eq!(error.place(), "base_url");
/// ```
pub struct Http {
    host: &'static Host,
    operations: Operations,
    routes: Vec<Route>,
    defaults: Vec<(&'static str, Value)>, // fields of every request that does not set them
    renames: &'static [(&'static str, &'static str)],
    pool: Arc<Pool>,
}

impl Http {
    /// A host with these settings; touches no network.
    ///
    /// # Errors
    /// `Config`, naming the setting that is wrong.
    pub fn new(host: &'static Host, config: Config) -> Result<Http> {
        check_key(host, &config)?;
        let base = config.base_url.as_deref().or(host.base_url);
        let base = base.ok_or_else(|| {
            Error::config("is missing: where is the host? It looks like http://localhost:8000/v1").at("base_url")
        })?;
        let (target, prefix) = Target::parse(base).map_err(|e| e.at("base_url"))?;
        let target = way(target, &config)?;
        let prefix = target.before_path() + &prefix;
        let headers = headers(&target, &config)?;
        let routes = host.operations().iter().map(|operation| Route::new(operation, host, &prefix, &headers));
        let routes = routes.collect::<Result<_>>()?;
        let timeout = Duration::from_millis(config.connect_timeout_ms);
        let pool = Arc::new(Pool::new(target, timeout));
        // Whoever answers in its place elsewhere may know the older names alone.
        let is_itself = config.base_url.is_none() || config.base_url.as_deref() == host.base_url;
        let renames = if is_itself { host.renames } else { &[] };
        Ok(Http { host, operations: host.operations(), routes, defaults: defaults(host, &config)?, renames, pool })
    }

    async fn ask(&self, call: &Call) -> Result<Reply> {
        self.warn(call);
        let route = self.routes.iter().find(|route| route.operation == call.operation);
        let route = route.ok_or_else(|| unsupported(self.host, call.operation))?;
        let (call, drop_usage) = self.prepared(call, route)?;
        let call = words::in_its_words(self.host, self.renames, call, &route.speaks)?;
        let wired = call.wire(&route.speaks)?;
        let (head, body) = inline::send(&self.pool, route.request(&call, &wired)).await?;
        if !head.status.is_success() {
            return Err(refused(wired.dialect, &head, body).await);
        }
        head.warnings.iter().for_each(|warning| call.context.warn(warning));
        if head.is_encoded {
            return Err(invalid_answer("the upstream's answer is compressed, and nobody asked for that"));
        }
        if head.streams == Some(wired.dialect.framing()) {
            // Whoever has it understood is told all of the cost; a client that asked for none sees none.
            let drop_usage = drop_usage && call.is_as_it_came(&route.speaks);
            let frames = events::Events::new(body, wired.dialect, drop_usage, call.choices());
            return Reply::forwarded(wired.dialect, Delivery::Stream, frames.boxed()).await;
        }
        whole(wired.dialect, body).await
    }

    /// A call with what is to be said of every one, and whether it asks for a frame that its client did not ask for.
    fn prepared(&self, call: &Call, route: &Route) -> Result<(Call, bool)> {
        let asks_usage = |call: &Call| match self.host.tells_usage {
            true => route.speaks[0].with_usage(call),
            false => Ok((call.clone(), false)),
        };
        if self.defaults.is_empty() || !call.operation.takes_turn() {
            return asks_usage(call);
        }
        let fill = |call: Call, (field, value): &(&str, Value)| call.with_default(field, value);
        asks_usage(&self.defaults.iter().try_fold(call.clone(), fill)?)
    }

    /// Tells the caller of fields that the host ignores. The names of the fields were noted when the body was checked, so
    /// that this compares a few lengths.
    fn warn(&self, call: &Call) {
        for (field, instead) in self.host.ignores.iter().filter(|(field, _)| call.has(field)) {
            call.context.warn(format!("{} ignores `{field}`: send {instead}", self.host.name));
        }
    }
}

impl Provider for Http {
    fn call<'a>(&'a self, call: &'a Call) -> BoxFuture<'a, Result<Reply>> {
        Box::pin(async move {
            if !self.serves().contains(call.operation) {
                return Err(unsupported(self.host, call.operation));
            }
            self.ask(call).await
        })
    }

    fn serves(&self) -> Operations {
        self.operations
    }

    fn is_free(&self) -> bool {
        self.host.is_free()
    }

    fn wants_a_name(&self) -> bool {
        self.host.needs_key && self.host.has_many_models
    }
}

/// A service would refuse every call; whoever names another address may need no key there.
fn check_key(host: &Host, config: &Config) -> Result<()> {
    let has_key = config.api_key.as_ref().is_some_and(|key| !key.reveal().is_empty());
    if !host.needs_key || has_key || !config.headers.is_empty() || config.base_url.is_some() {
        return Ok(());
    }
    let message = format!("is missing: {} answers nobody without a key", host.name);
    Err(Error::config(message).at("api_key"))
}

/// The way to a host: its proxy, and whom its certificate must come from.
fn way(target: Target, config: &Config) -> Result<Target> {
    let proxy = config.proxy.as_ref().map(Secret::reveal).filter(|url| !matches!(url.trim(), "" | "off"));
    let target = target.through(proxy.map(Proxy::parse).transpose().map_err(|e| e.at("proxy"))?);
    match &config.ca_file {
        Some(path) => target.trusting(path).map_err(|e| e.at("ca_file")),
        None => Ok(target),
    }
}

fn unsupported(host: &Host, operation: Operation) -> Error {
    let message = format!("{} cannot {operation}; those that can: {}", host.name, hosts::able(operation));
    Error::new(Kind::Unsupported, message)
}

fn method(operation: Operation) -> &'static str {
    if operation == Operation::Models { "GET" } else { "POST" }
}

/// How a host is asked one thing.
struct Route {
    operation: Operation,
    speaks: Vec<&'static dyn Dialect>,
    openings: Vec<Vec<Vec<u8>>>, // the head of the request as far as it never changes, by dialect and path
}

impl Route {
    fn new(operation: Operation, host: &Host, prefix: &str, headers: &HeaderMap) -> Result<Route> {
        let speaks = host.speaks(operation);
        let openings = speaks.iter().map(|&dialect| openings(operation, prefix, dialect, headers));
        Ok(Route { operation, openings: openings.collect::<Result<_>>()?, speaks })
    }

    fn request(&self, call: &Call, wired: &Wired) -> Asked {
        let dialect = self.speaks.iter().position(|dialect| dialect.name() == wired.dialect.name()).unwrap_or(0);
        let body = (method(self.operation) == "POST").then(|| wired.bytes.clone());
        Asked::new(
            &self.openings[dialect][wired.dialect.way(call)],
            &call.context.id,
            call.context.trace.as_deref().unwrap_or_default(),
            body,
        )
    }
}

fn openings(operation: Operation, prefix: &str, dialect: &dyn Dialect, headers: &HeaderMap) -> Result<Vec<Vec<u8>>> {
    let mut headers = headers.clone();
    let accept = format!("application/json, {}", dialect.framing().content_type());
    headers.insert(ACCEPT, HeaderValue::from_str(&accept).expect("content types are words"));
    let opening = |path: &str| {
        let path = format!("{prefix}{path}");
        let wrong = |e| Error::config("makes no request path").because(e).at("base_url");
        path.parse::<Uri>().map_err(wrong)?;
        Ok(head::opening(method(operation), &path, &headers))
    };
    dialect.paths().iter().filter(|(known, _)| *known == operation).map(|(_, path)| opening(path)).collect()
}

/// The settings that become fields of every request, if they are the host's to have.
fn defaults(host: &Host, config: &Config) -> Result<Vec<(&'static str, Value)>> {
    let fields = [("options", config.options.clone().map(Value::Object)), ("keep_alive", config.keep_alive.clone())];
    let given = fields.into_iter().filter_map(|(field, value)| Some((field, value?)));
    given.map(|(field, value)| allowed(host, field, value)).collect()
}

fn allowed(host: &Host, field: &'static str, value: Value) -> Result<(&'static str, Value)> {
    if !host.own.iter().any(|own| own.field() == field) {
        let able = hosts::HOSTS.iter().filter(|host| host.own.iter().any(|own| own.field() == field));
        let able = able.map(|host| host.name).collect::<Vec<_>>().join(", ");
        return Err(Error::config(format!("{} has no such setting; those that do: {able}", host.name)).at(field));
    }
    if let Some(count) = value.get("num_ctx").filter(|count| count.as_u64().is_none()) {
        return Err(Error::config(format!("must be a whole number of tokens, not {count}")).at("num_ctx").at(field));
    }
    if value.is_object() || value.is_string() || value.is_i64() {
        return Ok((field, value));
    }
    Err(Error::config(format!("must be a text like \"10m\" or a number of seconds, not {value}")).at(field))
}

fn headers(target: &Target, config: &Config) -> Result<HeaderMap> {
    let mut headers = HeaderMap::with_capacity(16);
    headers.insert(HOST, target.host_header()?);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let Some(authorization) = target.proxy_authorization() {
        headers.insert(PROXY_AUTHORIZATION, authorization.clone());
    }
    if let Some(key) = config.api_key.as_ref().filter(|k| !k.reveal().is_empty()) {
        let wrong = |_| Error::config("the key has characters that no header may have").at("api_key");
        let mut value = HeaderValue::from_str(&format!("Bearer {}", key.reveal())).map_err(wrong)?;
        value.set_sensitive(true);
        headers.insert(AUTHORIZATION, value);
    }
    for (name, value) in &config.headers {
        let wrong = || Error::config(format!("`{name}` is no header")).at("headers");
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| wrong())?;
        headers.insert(name, HeaderValue::from_str(value).map_err(|_| wrong())?);
    }
    Ok(headers)
}

/// A refusal in the words of its dialect, with the wait that its header asks for.
async fn refused(dialect: &dyn Dialect, head: &Head, body: Inline) -> Error {
    if head.status.is_redirection() {
        // Following would carry the key and the prompt to wherever it points.
        return Error::new(
            Kind::Upstream,
            format!("the upstream answered {}, and redirects are not followed", head.status),
        );
    }
    let body = if head.is_encoded { Bytes::new() } else { body.collect(MAX_REFUSAL).await.unwrap_or_default() };
    let error = refusal(dialect, head.status.as_u16(), head.retry_after, &body);
    if head.is_final { error.for_good() } else { error }
}

/// A refusal that is here, or was recorded.
pub(super) fn refusal(dialect: &dyn Dialect, status: u16, retry_after: Option<Duration>, body: &[u8]) -> Error {
    let error = dialect.refusal(status, body);
    match retry_after {
        Some(wait) => error.retry_after(wait),
        None if status == StatusCode::NOT_FOUND.as_u16() && error.get_code().is_none() => lacks(error),
        None => error,
    }
}

/// vLLM has only the routes of its model's kind: an unknown route is something the model cannot do.
fn lacks(error: Error) -> Error {
    match error.message() {
        "Not Found" => Error::new(Kind::Unsupported, "the upstream's model cannot do this").because(error),
        _ => error,
    }
}

async fn whole(dialect: &'static dyn Dialect, body: Inline) -> Result<Reply> {
    let is_open_ended = body.is_open_ended();
    let bytes = body.collect(MAX_BODY).await?;
    let reply = answer(dialect, bytes.clone())?;
    // Only the JSON itself tells whether all of it is here.
    if is_open_ended && serde_json::from_slice::<serde::de::IgnoredAny>(&bytes).is_err() {
        return Err(truncated());
    }
    Ok(reply)
}

/// A whole answer that is here, or was recorded.
pub(super) fn answer(dialect: &'static dyn Dialect, bytes: Bytes) -> Result<Reply> {
    if bytes.trim_ascii_start().first() != Some(&dialect.bracket()) {
        return Err(invalid_answer("the upstream answered 200 with something that is no JSON object"));
    }
    let mut glance = dialect.glance(&bytes);
    if let Some(failure) = glance.failure.take() {
        return Err(failure);
    }
    glance.is_finished = true; // all of it is here
    Ok(Reply::of_wire(dialect, Wire { bytes, glance }))
}
