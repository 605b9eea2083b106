//! What one request may choose for itself, in its headers.
use std::time::Duration;

use http::header::HeaderMap;

/// The names under which clients send the id of a session: OpenCode's two, Codex' two, Claude Code's.
const SESSIONS: [&str; 5] =
    ["x-session-affinity", "x-session-id", "session-id", "thread-id", "x-claude-code-session-id"];
/// A longer one is no id.
const LONGEST: usize = 256;

/// The session, so that its calls meet the deployment that knows them.
pub(crate) fn session(headers: &HeaderMap) -> Option<String> {
    let named = SESSIONS.iter().find_map(|name| headers.get(*name))?;
    named.to_str().ok().filter(|id| !id.is_empty() && id.len() <= LONGEST).map(str::to_owned)
}

/// How long the client would wait for a model that is being loaded: `Prefer: wait=30` (RFC 7240), in seconds.
pub(crate) fn patience(headers: &HeaderMap) -> Duration {
    let all = headers.get_all("prefer").into_iter().filter_map(|value| value.to_str().ok());
    let mut wishes = all.flat_map(|value| value.split(',')).filter_map(|wish| {
        let (name, value) = wish.split_once('=')?;
        let is_wait = name.trim().eq_ignore_ascii_case("wait");
        value.trim().trim_matches('"').parse().ok().filter(|_| is_wait)
    });
    wishes.next().map_or(Duration::ZERO, Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
        lines.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    #[test]
    fn a_session_is_known_by_the_names_that_clients_send() {
        assert_eq!(session(&headers(&[("session-id", "a"), ("x-session-id", "b")])).as_deref(), Some("b"));
        assert_eq!(session(&headers(&[("x-claude-code-session-id", "c")])).as_deref(), Some("c"));
        assert_eq!(session(&headers(&[("x-session-id", &"x".repeat(999))])), None);
        assert_eq!(session(&HeaderMap::new()), None);
    }

    #[test]
    fn who_would_wait_says_how_long() {
        for (value, seconds) in
            [("wait=30", 30), ("respond-async, wait=10", 10), ("Wait = \"5\"", 5), ("wait=soon", 0), ("x", 0)]
        {
            assert_eq!(patience(&headers(&[("prefer", value)])).as_secs(), seconds, "{value}");
        }
        assert_eq!(patience(&HeaderMap::new()), Duration::ZERO);
    }
}
