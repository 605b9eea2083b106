//! From the tokens' bytes to text that can be sent: whole characters only, and nothing that may become a stop string.

/// Bytes in, whole characters out; a character that is split across tokens waits for its rest.
#[derive(Default)]
pub(crate) struct Utf8 {
    rest: Vec<u8>,
}

impl Utf8 {
    pub(crate) fn push(&mut self, bytes: &[u8]) -> String {
        self.rest.extend_from_slice(bytes);
        let mut text = String::new();
        let mut from = 0;
        while let Some(chunk) = self.rest[from..].utf8_chunks().next() {
            let broken = chunk.invalid();
            text.push_str(chunk.valid());
            from += chunk.valid().len();
            if from + broken.len() == self.rest.len() && is_unfinished(broken) {
                break;
            }
            if !broken.is_empty() {
                text.push(char::REPLACEMENT_CHARACTER);
            }
            from += broken.len();
        }
        self.rest.drain(..from);
        text
    }

    /// What is left at the end: a character that never became whole.
    pub(crate) fn finish(&mut self) -> String {
        if std::mem::take(&mut self.rest).is_empty() { String::new() } else { char::REPLACEMENT_CHARACTER.into() }
    }
}

fn is_unfinished(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_err_and(|error| error.error_len().is_none())
}

/// Watches for stop strings, also where one is spread over several pieces.
pub(crate) struct Stops {
    stops: Vec<String>,
    held: String,
}

/// What may be sent, and whether a stop string follows it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Released {
    pub(crate) text: String,
    pub(crate) stopped: bool,
}

impl Stops {
    pub(crate) fn new(stops: Vec<String>) -> Stops {
        Stops { stops: stops.into_iter().filter(|stop| !stop.is_empty()).collect(), held: String::new() }
    }

    /// Takes the next piece and releases what cannot belong to a stop string any more.
    pub(crate) fn push(&mut self, piece: &str) -> Released {
        self.held.push_str(piece);
        if let Some(at) = self.stops.iter().filter_map(|stop| self.held.find(stop.as_str())).min() {
            self.held.truncate(at);
            return Released { text: self.finish(), stopped: true };
        }
        let safe = self.held.len() - self.longest_beginning();
        Released { text: self.held.drain(..safe).collect(), stopped: false }
    }

    /// What was held back in vain.
    pub(crate) fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }

    /// Bytes at the end of what is held that a stop string may begin with.
    fn longest_beginning(&self) -> usize {
        let longest = |stop: &String| {
            let most = self.held.len().min(stop.len() - 1);
            (1..=most).rev().find(|&n| self.held.as_bytes().ends_with(&stop.as_bytes()[..n])).unwrap_or(0)
        };
        self.stops.iter().map(longest).max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(stops: &[&str], pieces: &[&str]) -> (String, bool) {
        let mut watch = Stops::new(stops.iter().map(ToString::to_string).collect());
        let mut text = String::new();
        for piece in pieces {
            let released = watch.push(piece);
            text.push_str(&released.text);
            if released.stopped {
                return (text, true);
            }
        }
        (text + &watch.finish(), false)
    }

    #[test]
    fn a_character_split_across_tokens_comes_out_whole() {
        let mut utf8 = Utf8::default();
        let bytes = "a🙂b".as_bytes();
        assert_eq!(utf8.push(&bytes[..3]), "a");
        assert_eq!(utf8.push(&bytes[3..4]), "");
        assert_eq!(utf8.push(&bytes[4..]), "🙂b");
        assert_eq!(utf8.finish(), "");
    }

    #[test]
    fn bytes_that_are_no_text_become_replacement_characters() {
        let mut utf8 = Utf8::default();
        assert_eq!(utf8.push(b"x\xffy\xe2\x82"), "x\u{fffd}y");
        assert_eq!(utf8.push(b"z"), "\u{fffd}z");
        assert_eq!(utf8.push(b"\xf0\x9f"), "");
        assert_eq!(utf8.finish(), "\u{fffd}");
    }

    #[test]
    fn every_split_of_a_text_gives_the_same_text() {
        let text = "Grüße, 世界 🙂!";
        for cut in 0..text.len() {
            let mut utf8 = Utf8::default();
            let out = utf8.push(&text.as_bytes()[..cut]) + &utf8.push(&text.as_bytes()[cut..]) + &utf8.finish();
            assert_eq!(out, text, "cut at {cut}");
        }
    }

    #[test]
    fn a_stop_string_spread_over_pieces_stops_and_is_not_sent() {
        assert_eq!(said(&["END"], &["one E", "N", "D two"]), ("one ".into(), true));
        assert_eq!(said(&["\n\n"], &["a\n", "b\n", "\nc"]), ("a\nb".into(), true));
    }

    #[test]
    fn text_that_only_looked_like_a_stop_string_is_sent_after_all() {
        assert_eq!(said(&["END"], &["one E", "N", "d E"]), ("one ENd E".into(), false));
    }

    #[test]
    fn the_earliest_of_several_stop_strings_wins() {
        assert_eq!(said(&["c", "bc"], &["abcd"]), ("a".into(), true));
    }

    #[test]
    fn stop_strings_of_many_byte_characters_are_held_back_at_any_byte() {
        assert_eq!(said(&["🙂"], &["a🙃", "b🙂c"]), ("a🙃b".into(), true));
    }
}
