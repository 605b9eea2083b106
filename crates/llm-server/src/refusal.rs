//! Errors as responses: the status is chosen here, the words are the dialect's.
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use http::StatusCode;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use llm_core::dialect::Dialect;
use llm_core::{Error, Kind};

/// Where nobody knows better.
const SHORTEST_WAIT: Duration = Duration::from_secs(1);

/// The response for an error. Nothing that a client sends makes a 5xx.
pub(crate) fn response(dialect: &dyn Dialect, error: &Error) -> Response {
    let mut response = Response::new(Body::from(dialect.error(error)));
    (*response.status_mut(), *response.headers_mut()) = head(error);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// The status for an error, and the headers that belong to it.
pub(crate) fn head(error: &Error) -> (StatusCode, HeaderMap) {
    let (status, mut headers) = (status(error), HeaderMap::new());
    if status == StatusCode::UNAUTHORIZED {
        headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    if let Some(wait) = wait(status, error) {
        headers.insert(RETRY_AFTER, (wait.as_secs_f64().ceil().max(1.0) as u64).into());
    }
    (status, headers)
}

/// How long the client should wait: what is busy says so always, what is broken where the upstream said it.
fn wait(status: StatusCode, error: &Error) -> Option<Duration> {
    match status {
        StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS => {
            Some(error.get_retry_after().unwrap_or(SHORTEST_WAIT))
        }
        status if status.is_server_error() => error.get_retry_after(),
        _ => None,
    }
}

fn status(error: &Error) -> StatusCode {
    match (error.kind(), error.get_code()) {
        (Kind::Invalid, Some("body_too_large")) => StatusCode::PAYLOAD_TOO_LARGE,
        (Kind::Invalid, Some("method_not_allowed")) => StatusCode::METHOD_NOT_ALLOWED,
        (Kind::Invalid, Some("body_timeout")) => StatusCode::REQUEST_TIMEOUT,
        (Kind::Invalid, Some("headers_too_large")) => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
        (Kind::Invalid | Kind::Unsupported | Kind::ContextLength, _) => StatusCode::BAD_REQUEST,
        (Kind::Unauthorized, Some("origin_not_allowed")) => StatusCode::FORBIDDEN,
        (Kind::Unauthorized, _) => StatusCode::UNAUTHORIZED,
        (Kind::NotFound, _) => StatusCode::NOT_FOUND,
        (Kind::RateLimited, _) => StatusCode::TOO_MANY_REQUESTS,
        (Kind::Overloaded | Kind::Loading | Kind::Unavailable, _) => StatusCode::SERVICE_UNAVAILABLE,
        (Kind::Timeout, _) => StatusCode::GATEWAY_TIMEOUT,
        (Kind::Upstream, _) => StatusCode::BAD_GATEWAY,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// An upstream that refuses our key says nothing about the client's.
pub(crate) fn from_below(error: Error) -> Error {
    match error.kind() {
        Kind::Unauthorized => Error::new(Kind::Upstream, "the upstream refuses this gateway's key")
            .code("upstream_key_refused")
            .because(error),
        _ => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_that_the_upstream_asked_for_is_told_of_whatever_it_can_be_told() {
        let told = |kind, wait: Option<u64>| {
            let error = Error::new(kind, "x");
            let error = wait.into_iter().fold(error, |error, s| error.retry_after(Duration::from_secs(s)));
            head(&error).1.get(RETRY_AFTER).map(|wait| wait.to_str().unwrap().parse::<u64>().unwrap())
        };
        assert_eq!((told(Kind::RateLimited, None), told(Kind::RateLimited, Some(7))), (Some(1), Some(7)));
        assert_eq!((told(Kind::Upstream, None), told(Kind::Upstream, Some(7))), (None, Some(7)));
        assert_eq!(told(Kind::Invalid, Some(7)), None);
    }

    #[test]
    fn every_kind_of_error_has_the_status_that_the_guide_tells() {
        let guide = include_str!("../../../docs/errors.md");
        for kind in Kind::ALL {
            let row = guide.lines().find(|line| line.starts_with(&format!("| `{}` |", kind.name()))).expect("a row");
            let usual = status(&Error::new(kind, "x")).as_u16();
            let codes =
                ["method_not_allowed", "body_timeout", "body_too_large", "headers_too_large", "origin_not_allowed"];
            let others = codes.map(|code| status(&Error::new(kind, "x").code(code)).as_u16().to_string());
            let others: Vec<_> = others.into_iter().filter(|other| *other != usual.to_string()).collect();
            let told = if others.is_empty() { usual.to_string() } else { format!("{usual} ({})", others.join(", ")) };
            assert_eq!(row.split('|').nth(5).map(str::trim), Some(&*told), "{row}");
        }
    }
}
