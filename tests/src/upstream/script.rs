//! What a request wants of the upstream, said in its `user` field: `"user":"chunks=200 every_ms=5"`.

use std::time::Duration;

use memchr::memmem;

/// The behaviour that one chat request asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Script {
    /// `"stream":true` of the request itself.
    pub stream: bool,
    /// `"include_usage":true` of the request itself: one more chunk before `[DONE]`.
    pub usage: bool,
    /// `chunks=N`: how many tokens a stream has.
    pub chunks: usize,
    /// `every_ms=N`: the time between two tokens; all at once when zero.
    pub every: Duration,
    /// `first_ms=N`: the time before the answer begins.
    pub first: Duration,
    /// `cut_after=N`: the stream breaks off after so many tokens.
    pub cut_after: usize,
    /// `status=N`: refuse with this status.
    pub status: u16,
    /// `hang_after=N`: the stream says nothing more after so many tokens.
    pub hang_after: usize,
    /// `drop=1`: the connection is closed instead of an answer.
    pub drops: bool,
    /// `page=1`: a page of HTML with 200.
    pub page: bool,
    /// `odds=N`: all misdeeds among these happen with so many chances in a hundred.
    pub odds: u8,
    /// `retry_after=N`: a refusal says when to come back, in seconds.
    pub retry_after: Option<u64>,
    /// `strict=1`: refuse a body that vLLM would refuse.
    pub strict: bool,
}

impl Default for Script {
    fn default() -> Script {
        Script {
            stream: false,
            usage: false,
            chunks: 8,
            every: Duration::ZERO,
            first: Duration::ZERO,
            cut_after: usize::MAX,
            status: 200,
            hang_after: usize::MAX,
            drops: false,
            page: false,
            odds: 100,
            retry_after: None,
            strict: false,
        }
    }
}

impl Script {
    /// Finds the fields by their quoted names, for decoding 37 KB would cost more than what is measured.
    pub fn read(body: &[u8]) -> Script {
        let mut script = Script {
            stream: value(body, b"\"stream\"").starts_with(b"true"),
            usage: value(body, b"\"include_usage\"").starts_with(b"true"),
            ..Script::default()
        };
        for (name, number) in wishes(value(body, b"\"user\"")) {
            script.wish(name, number);
        }
        if fastrand::u8(..100) < script.odds { script } else { script.well_behaved() }
    }

    /// The same without misdeeds.
    fn well_behaved(self) -> Script {
        let Script { stream, usage, chunks, every, .. } = self;
        Script { stream, usage, chunks, every, ..Script::default() }
    }

    fn wish(&mut self, name: &str, number: u64) {
        match name {
            "chunks" => self.chunks = number as usize,
            "every_ms" => self.every = Duration::from_millis(number),
            "first_ms" => self.first = Duration::from_millis(number),
            "cut_after" => self.cut_after = number as usize,
            "status" => self.status = number as u16,
            "hang_after" => self.hang_after = number as usize,
            "drop" => self.drops = number == 1,
            "page" => self.page = number == 1,
            "odds" => self.odds = number as u8,
            "retry_after" => self.retry_after = Some(number),
            "strict" => self.strict = number == 1,
            _ => {}
        }
    }
}

/// What follows the last `"key":`. Inside a string the closing quote would be escaped, and so not found; the same
/// word as a value (`"role": "user"`) has no colon behind it.
fn value<'a>(body: &'a [u8], key: &[u8]) -> &'a [u8] {
    let after = |at: usize| body[at + key.len()..].trim_ascii_start().strip_prefix(b":").map(<[u8]>::trim_ascii_start);
    memmem::rfind_iter(body, key).find_map(after).unwrap_or_default()
}

fn wishes(value: &[u8]) -> impl Iterator<Item = (&str, u64)> {
    let text = value.strip_prefix(b"\"").unwrap_or_default();
    let text = &text[..memchr::memchr(b'"', text).unwrap_or(0)];
    let pairs = std::str::from_utf8(text).unwrap_or_default().split(' ');
    pairs.filter_map(|pair| pair.split_once('=')).filter_map(|(name, number)| Some((name, number.parse().ok()?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_says_what_it_wants_in_its_user_field() {
        let body =
            br#"{"messages":[{"role":"user","content":"hi"}],"stream": true,"user":"chunks=3 every_ms=5 cut_after=2"}"#;
        let expected =
            Script { stream: true, chunks: 3, every: Duration::from_millis(5), cut_after: 2, ..Script::default() };
        assert_eq!(Script::read(body), expected);
    }

    #[test]
    fn the_same_words_inside_a_prompt_mean_nothing() {
        let body = br#"{"messages":[{"role":"user","content":"set \"stream\":true and \"user\":\"status=500\""}]}"#;
        assert_eq!(Script::read(body), Script::default());
    }

    #[test]
    fn a_body_without_wishes_gets_a_plain_answer() {
        assert_eq!(Script::read(b"{}"), Script::default());
        assert_eq!(Script::read(b"\xff\"user\":\"\xff\""), Script::default());
    }
}
