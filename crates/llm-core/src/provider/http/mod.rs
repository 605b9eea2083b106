//! A host on the network: asks it in a dialect it speaks, and passes its bytes on.
//!
//! The connection is polled inside the call's own future and body: a task of its own, as in reqwest, would send every
//! chunk through a channel and cost four times as much. Dropping the call or its reply closes the connection, which is
//! how an upstream learns that nobody waits any more.
mod connect;
mod events;
mod inline;
mod pool;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, RETRY_AFTER};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode};
use http_body_util::Full;
use serde::Deserialize;

use crate::call::*;
use crate::dialect::{self, Dialect};
use crate::error::{Error, Kind, Result};
use crate::secret::Secret;
use connect::Target;
use inline::Inline;
use pool::Pool;

/// A whole body may be this long, in bytes: 4,096 vectors of 3,072 numbers as text.
const MAX_BODY: usize = 256 << 20;
/// A refusal is read so far, in bytes.
const MAX_REFUSAL: usize = 64 << 10;

/// What differs from host to host: a row of data.
#[derive(Debug)]
pub struct Host {
    /// Where it usually is; `None` if the user must say.
    pub base_url: Option<&'static str>,
    /// It answers `/tokenize` and `/detokenize`.
    pub tokenizes: bool,
    /// It understands `stream_options.include_usage`.
    pub tells_usage: bool,
}

/// A host's settings.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where it is: `http://host:port`, with or without `/v1`.
    pub base_url: Option<String>,
    /// Sent as `Authorization: Bearer ..`.
    pub api_key: Option<Secret>,
    /// Sent with every request.
    pub headers: BTreeMap<String, String>,
    /// How long connecting may take, in milliseconds.
    pub connect_timeout_ms: Option<u64>,
}

/// A host that is asked over HTTP.
pub struct Http {
    host: &'static Host,
    speaks: Vec<&'static dyn Dialect>,
    headers: HeaderMap,
    prefix: String,
    pool: Arc<Pool>,
}

impl Http {
    /// A host with these settings; touches no network.
    ///
    /// # Errors
    /// `Config`, naming the setting that is wrong.
    pub fn new(host: &'static Host, config: Config) -> Result<Http> {
        let base = config.base_url.as_deref().or(host.base_url);
        let base = base.ok_or_else(|| Error::config("`base_url` is missing: where is the host?").at("base_url"))?;
        let (target, prefix) = Target::parse(base).map_err(|e| e.at("base_url"))?;
        let headers = headers(&target, &config)?;
        // Far from any real connect time within a site, and short enough to try the next host.
        let timeout = Duration::from_millis(config.connect_timeout_ms.unwrap_or(5_000));
        Ok(Http { host, speaks: vec![dialect::openai()], headers, prefix, pool: Arc::new(Pool::new(target, timeout)) })
    }

    async fn ask(&self, call: &Call) -> Result<Reply> {
        let (call, drop_usage) = self.with_usage(call)?;
        let wired = call.wire(&self.speaks)?;
        let response = inline::send(&self.pool, self.request(&call, &wired)?).await?;
        if !response.status().is_success() {
            return Err(refused(wired.dialect, response).await);
        }
        if streams(response.headers()) {
            let frames = events::Events::new(response.into_body(), wired.dialect, drop_usage);
            return Reply::forwarded(wired.dialect, Delivery::Stream, frames.boxed()).await;
        }
        whole(wired.dialect, response.into_body()).await
    }

    fn with_usage(&self, call: &Call) -> Result<(Call, bool)> {
        if self.host.tells_usage { self.speaks[0].with_usage(call) } else { Ok((call.clone(), false)) }
    }

    fn request(&self, call: &Call, wired: &Wired) -> Result<http::Request<Full<Bytes>>> {
        let path = wired.dialect.paths().iter().find(|(operation, _)| *operation == call.operation);
        let (_, path) = path.ok_or_else(|| unsupported(call.operation))?;
        let uri = format!("{}{path}", self.prefix);
        let method = if call.operation == Operation::Models { Method::GET } else { Method::POST };
        let body = Full::new(wired.bytes.clone());
        let mut request = http::Request::new(body);
        *request.method_mut() = method;
        *request.uri_mut() = uri.parse().map_err(|e| Error::config("the base URL makes no request path").because(e))?;
        *request.headers_mut() = self.headers.clone();
        if let Ok(id) = HeaderValue::from_str(&call.context.id)
            && !id.is_empty()
        {
            request.headers_mut().insert(HeaderName::from_static("x-request-id"), id);
        }
        Ok(request)
    }
}

impl Provider for Http {
    fn call<'a>(&'a self, call: &'a Call) -> BoxFuture<'a, Result<Reply>> {
        Box::pin(async move {
            if !self.serves().contains(call.operation) {
                return Err(unsupported(call.operation));
            }
            self.ask(call).await
        })
    }

    fn serves(&self) -> Operations {
        use Operation::*;
        let tokens = if self.host.tokenizes { [Tokenize, Detokenize].into() } else { Operations::NONE };
        tokens | [Chat, Complete, Embed, Models].into()
    }
}

fn unsupported(operation: Operation) -> Error {
    Error::new(Kind::Unsupported, format!("this host cannot {operation}; vLLM and the built-in engine can"))
}

fn headers(target: &Target, config: &Config) -> Result<HeaderMap> {
    let mut headers = HeaderMap::with_capacity(16);
    headers.insert(HOST, target.host_header()?);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(ACCEPT, HeaderValue::from_static("application/json, text/event-stream"));
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

fn streams(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_TYPE).is_some_and(|t| t.as_bytes().starts_with(b"text/event-stream"))
}

/// A refusal in the words of its dialect, with the wait that its header asks for.
async fn refused(dialect: &dyn Dialect, response: Response<Inline>) -> Error {
    let (head, body) = response.into_parts();
    if head.status.is_redirection() {
        // Following would carry the key and the prompt to wherever it points.
        return Error::new(
            Kind::Upstream,
            format!("the upstream answered {}, and redirects are not followed", head.status),
        );
    }
    let body = body.collect(MAX_REFUSAL).await.unwrap_or_default();
    let error = dialect.refusal(head.status.as_u16(), &body);
    match retry_after(&head.headers) {
        Some(wait) => error.retry_after(wait),
        None if head.status == StatusCode::NOT_FOUND && error.get_code().is_none() => lacks(error),
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

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds: f64 = headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Duration::try_from_secs_f64(seconds.min(86_400.0)).ok()
}

async fn whole(dialect: &'static dyn Dialect, body: Inline) -> Result<Reply> {
    let bytes = body.collect(MAX_BODY).await?;
    if !bytes.trim_ascii_start().starts_with(b"{") {
        return Err(Error::new(Kind::Upstream, "the upstream answered 200 with something that is no JSON object"));
    }
    let mut glance = dialect.glance(&bytes);
    if let Some(failure) = glance.failure.take() {
        return Err(failure);
    }
    glance.is_finished = true; // its length was right
    Ok(Reply::of_wire(dialect, Wire { bytes, glance }))
}
