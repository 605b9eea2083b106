//! Which pages of other origins may ask: a list in the configuration; browsers keep to it.
use std::time::Duration;

use http::header::{HeaderName, HeaderValue, RETRY_AFTER};
use http::{HeaderMap, Method};
use llm_core::{Error, Result};
use tower_http::cors::{AllowHeaders, AllowOrigin, CorsLayer};

/// How long a browser may rely on an answer.
const FRESH: Duration = Duration::from_secs(600);

/// What these origins may do; `None` if there are none. `*` is every origin.
///
/// # Errors
/// `Config` for what is no origin.
pub(crate) fn layer(origins: &[String]) -> Result<Option<CorsLayer>> {
    let all: Vec<HeaderValue> = origins.iter().map(|origin| checked(origin)).collect::<Result<_>>()?;
    let origin = match &all[..] {
        [] => return Ok(None),
        all if all.iter().any(|origin| origin == "*") => AllowOrigin::any(),
        _ => AllowOrigin::list(all),
    };
    let told = ["x-request-id", "x-llm-warning", "x-queue-position", "x-queue-wait-ms"].map(HeaderName::from_static);
    let layer = CorsLayer::new()
        .allow_origin(origin)
        .allow_methods([Method::GET, Method::POST])
        .allow_headers(AllowHeaders::mirror_request()) // a wildcard would leave out the key
        .expose_headers(told.into_iter().chain([RETRY_AFTER]).collect::<Vec<_>>())
        .allow_private_network(true)
        .max_age(FRESH);
    Ok(Some(layer))
}

fn checked(origin: &str) -> Result<HeaderValue> {
    let is_bare = |url: &http::Uri| url.scheme().is_some() && url.authority().is_some() && url.path() == "/";
    let is_origin = origin == "*" || (!origin.ends_with('/') && origin.parse().is_ok_and(|url| is_bare(&url)));
    let value = HeaderValue::from_str(origin).ok().filter(|_| is_origin);
    let wrong = || format!("{origin:?} is no origin; it looks like https://chat.example.com, or * for every page");
    value.ok_or_else(|| Error::config(wrong()).at("cors"))
}

/// Whether a page of another origin asks.
pub(crate) fn is_foreign(headers: &HeaderMap) -> bool {
    headers.contains_key(http::header::ORIGIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_has_a_scheme_and_a_host_and_nothing_else() {
        let all = |origins: &[&str]| layer(&origins.iter().map(|o| (*o).to_owned()).collect::<Vec<_>>());
        assert!(all(&[]).unwrap().is_none());
        assert!(all(&["https://a.example", "http://localhost:3000"]).unwrap().is_some());
        assert!(all(&["*"]).unwrap().is_some());
        for wrong in ["a.example", "https://a.example/", "https://a.example/x", "", "https://a b"] {
            assert!(all(&[wrong]).unwrap_err().to_string().starts_with("cors: "), "{wrong}");
        }
    }
}
