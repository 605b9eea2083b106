//! The HTTP client for downloads, and what a server's refusal means to the user.
use std::sync::Arc;
use std::time::Duration;

use llm_core::{Error, Kind, Result};
use reqwest::header::RETRY_AFTER;
use reqwest::redirect::{Attempt, Policy};
use reqwest::{Client, Response, StatusCode};
use rustls::ClientConfig;
use rustls_platform_verifier::BuilderVerifierExt;

use super::download::Broken;

/// A client with the system's certificates and proxies. Its TLS is its own: nothing is set for the whole process.
///
/// # Errors
/// `Config` when the system's certificates cannot be read.
pub fn client() -> Result<Client> {
    let broken = |error: &dyn std::fmt::Display| Error::config(format!("HTTPS cannot be set up here ({error})"));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_platform_verifier())
        .map_err(|error| broken(&error))?
        .with_no_client_auth();
    Client::builder()
        .tls_backend_preconfigured(tls)
        .user_agent(concat!("llm/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(Duration::from_secs(10))
        .read_timeout(Duration::from_secs(30))
        .redirect(Policy::custom(follow))
        .build()
        .map_err(|error| broken(&error))
}

/// Model hubs redirect to their stores; none may lead from https to http.
fn follow(attempt: Attempt<'_>) -> reqwest::redirect::Action {
    let was_safe = attempt.previous().last().is_some_and(|url| url.scheme() == "https");
    match attempt.previous().len() {
        11.. => attempt.error("more than ten redirects"),
        _ if was_safe && attempt.url().scheme() != "https" => attempt.error("a redirect from https to http"),
        _ => attempt.follow(),
    }
}

/// Without the address, which may hold a key.
pub(super) fn unreachable(host: &str, error: reqwest::Error) -> Broken {
    let error = error.without_url();
    if error.is_redirect() || error.is_builder() {
        return Broken::Final(
            Error::new(Kind::Upstream, format!("{host} leads nowhere safe: check the address")).because(error),
        );
    }
    let kind = if error.is_timeout() { Kind::Timeout } else { Kind::Unavailable };
    let message = format!("{host} does not answer: check the address and the network");
    Broken::Retry(Error::new(kind, message).because(error))
}

pub(super) fn refused(host: &str, answer: &Response) -> Broken {
    let status = answer.status();
    let error = |kind, what: &str| Error::new(kind, format!("{host} {what} ({})", status.as_u16()));
    match status {
        StatusCode::NOT_FOUND | StatusCode::GONE => {
            Broken::Final(error(Kind::NotFound, "has no such file: check the address"))
        }
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Broken::Final(error(
            Kind::Unauthorized,
            "does not give the file to everybody: take one that needs no account",
        )),
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS | StatusCode::TOO_EARLY => later(error, answer),
        _ if status.is_server_error() => later(error, answer),
        _ => Broken::Final(error(Kind::Upstream, "does not give the file: check the address")),
    }
}

fn later(error: impl Fn(Kind, &str) -> Error, answer: &Response) -> Broken {
    let error = error(Kind::Unavailable, "is busy: try again later");
    let seconds = answer.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
    Broken::Retry(match seconds {
        Some(seconds) => error.retry_after(Duration::from_secs(seconds)),
        None => error,
    })
}
