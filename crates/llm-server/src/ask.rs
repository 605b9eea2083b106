//! A question for a model and its answer, whatever socket they go over.
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::StatusCode;
use http::header::{AGE, CACHE_CONTROL, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use llm_core::dialect::{self, Dialect};
use llm_core::{Cached, Caching, Call, Context, Delivery, Error, Kind, Operation, Provider, Result};

use crate::api::App;
use crate::asked::Asked;
use crate::line::{self, Line};
use crate::refusal;

/// Names a request, in its answer and in the log.
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Where a question is posted.
pub(crate) type Door = (Operation, &'static str, &'static dyn Dialect);

/// What is asked, by whom.
pub(crate) struct Question {
    operation: Operation,
    model: Arc<str>, // once it is read
    dialect: &'static dyn Dialect,
    path: &'static str,
    id: String,
    session: Option<String>,
    patience: Duration,
    trace: Option<String>,
    caching: Caching,
    caller: Option<Arc<str>>,
}

/// The answer, before it is HTTP's.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) content_type: &'static str,
    /// Those beside the type, the id and the framing.
    pub(crate) headers: HeaderMap,
    pub(crate) id: String,
    pub(crate) body: Payload,
}

/// What is sent.
pub(crate) enum Payload {
    Whole(Bytes),
    Stream(Line),
}

impl Question {
    /// A question at this door.
    pub(crate) fn new((operation, path, dialect): Door, asked: &Asked<'_>, caller: Option<Arc<str>>) -> Question {
        let id = id_of(asked);
        let (session, patience, trace, caching) = (asked.session(), asked.patience(), asked.trace(), asked.caching());
        let model = Arc::default();
        Question { operation, model, dialect, path, id, session, patience, trace, caching, caller }
    }

    /// Asks the gateway; `body` is what the client sent, or why it could not be had.
    pub(crate) async fn answered(mut self, app: &App, body: Result<Bytes>) -> Answer {
        let answer = match body.and_then(|bytes| self.call(app, bytes)) {
            Ok(call) => {
                unless_over(app, pin!(self.ask(app, call))).await.map_err(refusal::from_below).inspect_err(|error| {
                    // What a model said is counted with the model.
                    if matches!(error.kind(), Kind::NotFound | Kind::Unsupported) && !self.reaches_a_model(app) {
                        app.telemetry.refused(&self.id, self.path, error);
                    }
                })
            }
            Err(error) => {
                app.telemetry.refused(&self.id, self.path, &error);
                Err(error)
            }
        };
        let (status, content_type, headers, body) = answer.unwrap_or_else(|error| {
            let (status, headers) = refusal::head(&error);
            (status, "application/json", headers, Payload::Whole(self.dialect.error(&error)))
        });
        Answer { status, content_type, headers, id: self.id, body }
    }

    fn reaches_a_model(&self, app: &App) -> bool {
        // What takes no turn is counted with no model.
        self.operation.takes_turn() && app.gateway.router().find(&self.model, self.operation).is_ok()
    }

    fn call(&mut self, app: &App, bytes: Bytes) -> Result<Call> {
        // A client is told that a model is loading, unless it says how long it would wait: it knows that better than we.
        let patience = self.patience.min(Duration::from_secs(app.config.max_patience_s));
        let (session, trace) = (self.session.take(), self.trace.take());
        let caller = self.caller.as_deref().unwrap_or_default().to_owned();
        let context = Context { patience, caller, session, trace, caching: self.caching, ..Context::named(&self.id) };
        let call = Call::read_in(context, self.operation, self.dialect, bytes)?;
        (self.operation, self.model) = (call.operation, call.model.clone());
        Ok(call)
    }

    async fn ask(&self, app: &App, call: Call) -> Result<(StatusCode, &'static str, HeaderMap, Payload)> {
        let mut headers = HeaderMap::new();
        if call.delivery == Delivery::Whole {
            let bytes = app.gateway.call(&call).await?.whole(self.dialect, &call).await?;
            told(&call, &mut headers);
            return Ok((StatusCode::OK, "application/json", headers, Payload::Whole(bytes)));
        }
        let body = line::begin(app, self.dialect, &call).await?;
        told(&call, &mut headers);
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        // nginx would otherwise gather events before it passes them on.
        headers.insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
        Ok((StatusCode::OK, self.dialect.framing().content_type(), headers, Payload::Stream(body)))
    }
}

/// An answer that begins before a server that stops has given it up; its connection is looked at once more then.
async fn unless_over<T>(app: &App, mut answer: Pin<&mut impl Future<Output = Result<T>>>) -> Result<T> {
    poll_fn(|cx| match answer.as_mut().poll(cx) {
        Poll::Pending if app.is_over.load(Ordering::Relaxed) => Poll::Ready(Err(line::stopped())),
        answer => answer,
    })
    .await
}

/// What the caller should know: who answered instead, what was left out, how long it stood in line, how old the answer is.
fn told(call: &Call, headers: &mut HeaderMap) {
    let progress = call.context.progress.borrow();
    if let Some(place) = progress.joined_at {
        headers.insert(HeaderName::from_static("x-queue-position"), place.into());
        // Who stands there still will have waited longer than can be told now.
        if progress.place.is_none() {
            let waited = u64::try_from(progress.queued.as_millis()).unwrap_or(u64::MAX);
            headers.insert(HeaderName::from_static("x-queue-wait-ms"), waited.into());
        }
    }
    if let Some(cached) = progress.cached {
        let word = if cached == Cached::Miss { "MISS" } else { "HIT" };
        headers.insert(HeaderName::from_static("x-cache"), HeaderValue::from_static(word));
        if let Cached::Hit(age) = cached {
            headers.insert(AGE, age.as_secs().into());
        }
    }
    for warning in &progress.warnings {
        if let Ok(value) = HeaderValue::from_str(warning) {
            headers.append(HeaderName::from_static("x-llm-warning"), value);
        }
    }
}

/// The answer to something that is no request, whoever asked, and for what.
pub(crate) fn refused(app: &App, error: &Error) -> Answer {
    let id = new_id(fastrand::u128(..));
    app.telemetry.refused(&id, "", error);
    let (status, headers) = refusal::head(error);
    let body = Payload::Whole(dialect::openai().error(error));
    Answer { status, content_type: "application/json", headers, id, body }
}

/// The client's own id of a request, or a new one.
pub(crate) fn id_of(asked: &Asked<'_>) -> String {
    asked.id().map_or_else(|| new_id(fastrand::u128(..)), str::to_owned)
}

/// 24 hexadecimal digits, by hand: the formatting machinery takes ten times as long.
fn new_id(mut random: u128) -> String {
    let digit = |_| {
        random >>= 4;
        char::from(b"0123456789abcdef"[(random & 0xf) as usize])
    };
    (0..24).map(digit).collect()
}

impl From<Answer> for Response {
    fn from(answer: Answer) -> Response {
        let body = match answer.body {
            Payload::Whole(bytes) => Body::from(bytes),
            Payload::Stream(stream) => Body::new(stream),
        };
        let mut response = Response::new(body);
        *response.status_mut() = answer.status;
        *response.headers_mut() = answer.headers;
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(answer.content_type));
        if let Ok(id) = HeaderValue::try_from(answer.id) {
            response.headers_mut().insert(REQUEST_ID, id);
        }
        response
    }
}

/// The error of a body that took too long.
pub(crate) fn slow_body() -> Error {
    Error::invalid("the body did not arrive in time").code("body_timeout")
}
