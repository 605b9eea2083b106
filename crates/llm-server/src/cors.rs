//! Which pages of other origins may ask: a list in the configuration. Browsers keep their answers from the others, but send
//! what those ask all the same, so that a server that asks for no key has to refuse them itself.
use std::net::IpAddr;
use std::time::Duration;

use http::header::{HOST, HeaderName, HeaderValue, ORIGIN, RETRY_AFTER};
use http::{HeaderMap, Method, Uri};
use llm_core::{Error, Kind, Result};
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
    headers.contains_key(ORIGIN)
}

/// Whether a page may ask where no key is needed: one of a listed origin, or of this server on this machine or at an
/// address. By a name, a page of anybody's could have led its browser here. Editors and extensions are no pages.
///
/// # Errors
/// `Unauthorized`, with the remedy.
pub(crate) fn may_ask(listed: &[String], headers: &HeaderMap) -> Result<()> {
    let text = |name| headers.get(name).map(|value: &HeaderValue| value.to_str().unwrap_or("null"));
    let host = text(HOST).unwrap_or_default();
    // A page that only looks at its own server names no origin.
    let is_browser = headers.contains_key("sec-fetch-site");
    let origin = match text(ORIGIN) {
        Some(origin) => origin.to_owned(),
        None if is_browser => format!("http://{host}"),
        None => return Ok(()),
    };
    let url: Option<Uri> = origin.parse().ok();
    let is_page = url.as_ref().is_none_or(|url| matches!(url.scheme_str(), None | Some("http" | "https")));
    let is_same = |known: &str| known == origin || text(ORIGIN).is_none() && known.ends_with(&format!("://{host}"));
    let is_listed = listed.iter().any(|known| known == "*" || is_same(known));
    let is_ours = url.as_ref().and_then(Uri::authority).is_some_and(|from| {
        let name = from.host().trim_matches(['[', ']']);
        let is_here = name == "localhost" || name.ends_with(".localhost") || name.parse::<IpAddr>().is_ok();
        is_here && host.eq_ignore_ascii_case(from.as_str())
    });
    if !is_page || is_listed || is_ours {
        return Ok(());
    }
    let message =
        format!("pages of {origin:?} may not ask a server without a key: list it in `server.cors`, or set a key");
    Err(Error::new(Kind::Unauthorized, message).code("origin_not_allowed"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_no_key_is_needed_pages_of_others_are_refused_and_what_is_no_page_is_not() {
        let ask = |origin: &'static str, host: &'static str| {
            let named = |name, value| (name, HeaderValue::from_static(value));
            let headers = HeaderMap::from_iter([named(ORIGIN, origin), named(HOST, host)]);
            may_ask(&["https://chat.example".into()], &headers).map_err(|e| e.to_string())
        };
        for (origin, host) in [
            ("https://chat.example", "127.0.0.1:8000"),
            ("http://127.0.0.1:8000", "127.0.0.1:8000"),
            ("http://localhost:8000", "LOCALHOST:8000"),
            ("http://[::1]:8000", "[::1]:8000"),
            ("vscode-webview://1a2b", "127.0.0.1:8000"),
            ("chrome-extension://abc", "127.0.0.1:8000"),
        ] {
            assert_eq!(ask(origin, host), Ok(()), "{origin}");
        }
        for (origin, host) in [
            ("https://evil.example", "127.0.0.1:8000"),
            ("http://evil.example:8000", "evil.example:8000"), // its name led the browser here
            ("http://localhost:3000", "localhost:8000"),
            ("null", "127.0.0.1:8000"),
            ("", "127.0.0.1:8000"),
        ] {
            assert!(ask(origin, host).unwrap_err().contains("list it in `server.cors`"), "{origin}");
        }
        // What a page asks its own server for without naming an origin.
        let look = |host: &'static str| {
            let fetched = (HeaderName::from_static("sec-fetch-site"), HeaderValue::from_static("same-origin"));
            let headers = HeaderMap::from_iter([fetched, (HOST, HeaderValue::from_static(host))]);
            may_ask(&["https://chat.example".into()], &headers).is_ok()
        };
        assert!(look("127.0.0.1:8000") && look("localhost:8000") && look("chat.example") && !look("evil.example:8000"));
        assert!(
            may_ask(&[], &HeaderMap::new()).is_ok()
                && may_ask(&["*".into()], &HeaderMap::from_iter([(ORIGIN, HeaderValue::from_static("null"))])).is_ok()
        );
    }

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
