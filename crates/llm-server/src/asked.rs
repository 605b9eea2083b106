//! What a request's headers say that matters here, noted in one pass.
use std::time::Duration;

use http::header::HeaderMap;
use llm_core::Caching;

/// The names under which clients send the id of a session, the surest first: OpenCode's two, Codex' two, Claude Code's.
const SESSIONS: [&str; 5] =
    ["x-session-affinity", "x-session-id", "session-id", "thread-id", "x-claude-code-session-id"];
/// A longer one is no id of a session.
const LONGEST_SESSION: usize = 256;
/// A longer one is no id of a request.
const LONGEST_ID: usize = 128;

/// Who asks, and what this one request may choose for itself.
#[derive(Debug, Default)]
pub(crate) struct Asked<'h> {
    bearer: Option<&'h [u8]>,
    keys: [Option<&'h [u8]>; 2],
    id: Option<&'h [u8]>,
    sessions: [Option<&'h [u8]>; SESSIONS.len()],
    patience: Option<Duration>,
    trace: Option<&'h [u8]>,
    caching: Caching,
    forwarded_for: Vec<&'h [u8]>, // several lines are one list
    user: Option<&'h [u8]>,
}

impl<'h> Asked<'h> {
    /// From the headers of a request, whatever holds them; `user` is the header in which proxies name whom they let in.
    pub(crate) fn read(user: Option<&str>, headers: impl Iterator<Item = (&'h str, &'h [u8])>) -> Asked<'h> {
        let mut asked = Asked::default();
        for (name, value) in headers {
            let value = value.trim_ascii();
            if user.is_some_and(|user| name.eq_ignore_ascii_case(user)) {
                asked.user = Some(value);
            }
            asked.note(name, value);
        }
        asked
    }

    /// The same from a map.
    pub(crate) fn of(user: Option<&str>, headers: &'h HeaderMap) -> Asked<'h> {
        Asked::read(user, headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())))
    }

    fn note(&mut self, name: &str, value: &'h [u8]) {
        let is = |wanted: &str| name.eq_ignore_ascii_case(wanted);
        match name.len() {
            13 if is("cache-control") => self.caching = caching(value),
            13 if is("authorization") => self.bearer = self.bearer.or_else(|| bearer(value)),
            9 if is("x-api-key") => self.keys[0] = Some(value),
            7 if is("api-key") => self.keys[1] = Some(value),
            12 if is("x-request-id") => self.id = Some(value),
            11 if is("traceparent") => self.trace = Some(value),
            6 if is("prefer") => self.patience = self.patience.or_else(|| patience(value)),
            15 if is("x-forwarded-for") => self.forwarded_for.push(value),
            9.. => {
                let at = SESSIONS.iter().position(|session| is(session));
                at.into_iter().for_each(|at| self.sessions[at] = Some(value));
            }
            _ => {}
        }
    }

    /// The key, in whichever header it stands.
    pub(crate) fn key(&self) -> Option<&'h [u8]> {
        self.bearer.or(self.keys[0]).or(self.keys[1])
    }

    /// The client's own id, if it can stand in a log and a header.
    pub(crate) fn id(&self) -> Option<&'h str> {
        let id = std::str::from_utf8(self.id?).ok()?;
        let is_one = !id.is_empty() && id.len() <= LONGEST_ID && id.bytes().all(|byte| byte.is_ascii_graphic());
        is_one.then_some(id)
    }

    /// The session, so that its calls meet the deployment that knows them.
    pub(crate) fn session(&self) -> Option<String> {
        let named = self.sessions.iter().flatten().next()?;
        let is_one = (1..=LONGEST_SESSION).contains(&named.len());
        std::str::from_utf8(named).ok().filter(|_| is_one).map(str::to_owned)
    }

    /// The trace that the request is part of, to be handed on (W3C Trace Context).
    pub(crate) fn trace(&self) -> Option<String> {
        let is_one =
            |trace: &&str| trace.len() == 55 && trace.bytes().all(|byte| byte == b'-' || byte.is_ascii_hexdigit());
        std::str::from_utf8(self.trace?).ok().filter(is_one).map(str::to_owned)
    }

    /// What it makes of answers that are kept.
    pub(crate) fn caching(&self) -> Caching {
        self.caching
    }

    /// Who a proxy says that it let in; to be believed of those that are trusted.
    pub(crate) fn user(&self) -> Option<&'h str> {
        text(self.user)
    }

    /// The addresses of the way here, as proxies tell them: so, too.
    pub(crate) fn forwarded_for(&self) -> impl DoubleEndedIterator<Item = &'h str> {
        // One that cannot be read ends the way, as what stands before it is anybody's.
        self.forwarded_for.iter().map(|line| text(Some(*line)).unwrap_or_default())
    }

    /// How long the client would wait for a model that is being loaded: `Prefer: wait=30` (RFC 7240), in seconds.
    pub(crate) fn patience(&self) -> Duration {
        self.patience.unwrap_or_default()
    }
}

fn text(value: Option<&[u8]>) -> Option<&str> {
    std::str::from_utf8(value?).ok().filter(|text| !text.is_empty())
}

fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, key) = value.split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"Bearer ").then(|| key.trim_ascii())
}

/// `Cache-Control` of a request (RFC 9111).
fn caching(value: &[u8]) -> Caching {
    let says = |wanted: &[u8]| value.split(|&b| b == b',').any(|word| word.trim_ascii().eq_ignore_ascii_case(wanted));
    match () {
        () if says(b"no-store") => Caching::Never,
        () if says(b"no-cache") || says(b"max-age=0") => Caching::Renew,
        () => Caching::Use,
    }
}

fn patience(value: &[u8]) -> Option<Duration> {
    let wishes = std::str::from_utf8(value).ok()?.split(',');
    let mut waits = wishes.filter_map(|wish| {
        let (name, value) = wish.split_once('=')?;
        let is_wait = name.trim().eq_ignore_ascii_case("wait");
        value.trim().trim_matches('"').parse().ok().filter(|_| is_wait)
    });
    waits.next().map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked<'h>(lines: &[(&'h str, &'h str)]) -> Asked<'h> {
        Asked::read(None, lines.iter().map(|(name, value)| (*name, value.as_bytes())))
    }

    #[test]
    fn the_key_is_taken_from_three_headers() {
        for (name, value, key) in [
            ("authorization", "Bearer sk-1", Some("sk-1")),
            ("Authorization", "bearer  sk-1", Some("sk-1")),
            ("x-api-key", " sk-1", Some("sk-1")),
            ("Api-Key", "sk-1", Some("sk-1")),
            ("authorization", "sk-1", None),
            ("cookie", "sk-1", None),
        ] {
            assert_eq!(asked(&[(name, value)]).key(), key.map(str::as_bytes), "{name}: {value}");
        }
        let both = asked(&[("x-api-key", "other"), ("authorization", "Bearer mine")]);
        assert_eq!(both.key(), Some(&b"mine"[..]));
    }

    #[test]
    fn an_id_is_taken_over_if_it_can_stand_in_a_log() {
        assert_eq!(asked(&[("X-Request-Id", "a-1")]).id(), Some("a-1"));
        for wrong in ["", "a b", "\u{e9}", &"x".repeat(129)] {
            assert_eq!(asked(&[("x-request-id", wrong)]).id(), None, "{wrong}");
        }
    }

    #[test]
    fn a_session_is_known_by_the_names_that_clients_send() {
        let session = |lines: &[(&'static str, &'static str)]| asked(lines).session();
        assert_eq!(session(&[("session-id", "a"), ("x-session-id", "b")]).as_deref(), Some("b"));
        assert_eq!(session(&[("X-Claude-Code-Session-Id", "c")]).as_deref(), Some("c"));
        assert_eq!(asked(&[("x-session-id", &"x".repeat(999))]).session(), None);
        assert_eq!(session(&[]), None);
    }

    #[test]
    fn a_trace_is_handed_on_if_it_is_one() {
        let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        assert_eq!(asked(&[("Traceparent", trace)]).trace().as_deref(), Some(trace));
        for wrong in ["", "00-0af7", &trace.replace('0', "x")] {
            assert_eq!(asked(&[("traceparent", wrong)]).trace(), None, "{wrong}");
        }
    }

    #[test]
    fn who_wants_no_kept_answer_says_so() {
        for (value, caching) in [
            ("no-cache", Caching::Renew),
            ("max-age=0", Caching::Renew),
            ("no-transform, No-Store", Caching::Never),
            ("max-age=60", Caching::Use),
        ] {
            assert_eq!(asked(&[("Cache-Control", value)]).caching(), caching, "{value}");
        }
    }

    #[test]
    fn who_would_wait_says_how_long() {
        for (value, seconds) in
            [("wait=30", 30), ("respond-async, wait=10", 10), ("Wait = \"5\"", 5), ("wait=soon", 0), ("x", 0)]
        {
            assert_eq!(asked(&[("prefer", value)]).patience().as_secs(), seconds, "{value}");
        }
        assert_eq!(asked(&[]).patience(), Duration::ZERO);
    }
}
