//! One pass over a JSON body that checks it all and notes where the top-level fields stand; nothing is decoded.
//!
//! A body of 37 KB is mostly text inside strings, so strings are crossed 64 bytes at a time by bitmaps of their quotes
//! and escapes (simdjson's), and the little that stands between them is read byte by byte. It accepts exactly what
//! serde_json accepts, which a fuzz test holds it to; what is wrong never goes upstream.
use std::ops::Range;

use wide::u8x16;

use crate::error::{Error, Result};

/// Deeper nesting than this is refused, as serde_json does.
pub(crate) const MAX_DEPTH: usize = 127;

/// Where a value stands, with the key it has in an object.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Field {
    pub(crate) key: Range<usize>, // without its quotes; empty in an array
    pub(crate) value: Range<usize>,
}

/// The top-level fields of an object, in order.
pub(crate) fn object(bytes: &[u8]) -> Result<Vec<Field>> {
    let mut scan = Scan::new(bytes);
    scan.blank();
    match scan.peek() {
        Some(b'{') => scan.run(),
        _ => Err(syntax("the body must be a JSON object", 0)),
    }
}

/// The elements of an array that was checked before.
pub(crate) fn elements(bytes: &[u8]) -> Result<Vec<Field>> {
    let mut scan = Scan::new(bytes);
    scan.blank();
    scan.run()
}

#[cold]
fn syntax(what: &str, at: usize) -> Error {
    Error::invalid(format!("{what} (byte {at} of the body)")).code("invalid_json")
}

struct Scan<'a> {
    bytes: &'a [u8],
    at: usize,
    depth: usize,
    objects: u128, // bit `depth` says whether that level is an object
    high: u8x16,   // its sign bits: whether any string had a byte beyond ASCII
    key: Range<usize>,
    fields: Vec<Field>,
}

impl<'a> Scan<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        let (high, fields) = (u8x16::default(), Vec::with_capacity(16));
        Scan { bytes, at: 0, depth: 0, objects: 0, high, key: 0..0, fields }
    }

    fn run(mut self) -> Result<Vec<Field>> {
        let mut from = 0;
        loop {
            if self.depth == 1 {
                from = self.at;
            }
            if self.value()? && self.ends(&mut from)? {
                return self.finish();
            }
        }
    }

    /// Reads what begins here; `false` if that is an object or an array with something inside, which is read next.
    fn value(&mut self) -> Result<bool> {
        match self.peek() {
            Some(b'"') => self.string()?,
            Some(open @ (b'{' | b'[')) => return self.opens(open == b'{'),
            Some(_) => self.scalar()?,
            None => return Err(self.broken_off()),
        }
        Ok(true)
    }

    fn opens(&mut self, object: bool) -> Result<bool> {
        if self.depth == MAX_DEPTH {
            return Err(syntax("the JSON is nested too deeply: 127 levels at most", self.at));
        }
        self.depth += 1;
        self.objects = self.objects & !(1 << self.depth) | u128::from(object) << self.depth;
        self.at += 1;
        self.blank();
        if self.peek() == Some(if object { b'}' } else { b']' }) {
            self.at += 1;
            self.depth -= 1;
            return Ok(true);
        }
        if object {
            self.key()?;
        }
        Ok(false)
    }

    /// After a value: closes what ends with it and goes to the next one; `true` at the end of all.
    fn ends(&mut self, from: &mut usize) -> Result<bool> {
        loop {
            if self.depth == 1 {
                self.fields.push(Field { key: self.key.clone(), value: *from..self.at });
            }
            self.blank();
            let object = self.objects >> self.depth & 1 == 1;
            match self.peek() {
                None if self.depth == 0 => return Ok(true),
                None => return Err(self.broken_off()),
                _ if self.depth == 0 => return Err(syntax("something stands behind the end of the JSON", self.at)),
                Some(b',') => return self.comma(object),
                Some(b'}') if object => {}
                Some(b']') if !object => {}
                Some(b'}' | b']') => return Err(syntax("a bracket closes what is not open", self.at)),
                Some(_) => return Err(syntax("a comma or the closing bracket is missing", self.at)),
            }
            self.at += 1;
            self.depth -= 1;
        }
    }

    fn comma(&mut self, object: bool) -> Result<bool> {
        self.at += 1;
        self.blank();
        if object {
            self.key()?;
        }
        Ok(false)
    }

    /// A key with its colon.
    fn key(&mut self) -> Result<()> {
        self.expect(b'"', "a key must stand here, in double quotes")?;
        let from = self.at + 1;
        self.string()?;
        if self.depth == 1 {
            self.key = from..self.at - 1;
        }
        self.blank();
        self.expect(b':', "a colon must stand behind a key")?;
        self.at += 1;
        self.blank();
        Ok(())
    }

    fn expect(&self, byte: u8, else_wrong: &str) -> Result<()> {
        match self.peek() {
            Some(found) if found == byte => Ok(()),
            Some(_) => Err(syntax(else_wrong, self.at)),
            None => Err(self.broken_off()),
        }
    }

    fn scalar(&mut self) -> Result<()> {
        let rest = &self.bytes[self.at..];
        let length = rest.iter().position(|b| b" \t\r\n,:{}[]\"".contains(b)).unwrap_or(rest.len());
        let word = &rest[..length];
        if !(matches!(word, b"true" | b"false" | b"null") || is_number(word)) {
            return Err(syntax("this is no JSON value", self.at));
        }
        self.at += length;
        Ok(())
    }

    /// Goes behind the string that begins here.
    fn string(&mut self) -> Result<()> {
        self.at += 1;
        // Keys and names are short, and plain.
        if let Some(bytes) = self.bytes[self.at..].first_chunk::<16>() {
            let lane = u8x16::new(*bytes);
            let special = is(lane, b'"') | is(lane, b'\\') | control(lane);
            let length = special.to_bitmask().trailing_zeros() as usize;
            if bytes.get(length) == Some(&b'"') {
                self.high |= lane;
                self.at += length + 1;
                return Ok(());
            }
        }
        self.long_string()
    }

    fn long_string(&mut self) -> Result<()> {
        let mut escape = false;
        while self.at < self.bytes.len() {
            let rest = &self.bytes[self.at..];
            let ends = match rest.first_chunk() {
                Some(block) => self.block(block, &mut escape)?,
                None => self.block(&std::array::from_fn(|i| rest.get(i).copied().unwrap_or(b' ')), &mut escape)?,
            };
            if ends != 0 {
                self.at += ends.trailing_zeros() as usize + 1;
                return Ok(());
            }
            self.at += 64;
        }
        Err(self.broken_off())
    }

    /// Checks 64 bytes of a string, up to its end; the quotes that may be this end, a bit each.
    #[inline(always)]
    fn block(&mut self, block: &[u8; 64], escape: &mut bool) -> Result<u64> {
        let lanes = lanes(block);
        self.high |= lanes[0] | lanes[1] | lanes[2] | lanes[3];
        let (quotes, backslashes) = (equal(&lanes, b'"'), equal(&lanes, b'\\'));
        let escaped = escaped(backslashes, escape);
        let ends = quotes & !escaped;
        let inside = ends ^ ends.wrapping_sub(1); // up to the first of them
        // Nearly all of them are quotes, backslashes, line ends and tabs.
        let unusual = escaped & inside & !(quotes | backslashes);
        if unusual != 0 {
            let rare = unusual & !bits(&lanes, |lane| is(lane, b'n') | is(lane, b't'));
            if rare != 0 {
                self.check_escapes(rare)?;
            }
        }
        if has_control(&lanes) {
            self.refuse_control(block, inside)?;
        }
        Ok(ends)
    }

    fn check_escapes(&self, mut escaped: u64) -> Result<()> {
        while escaped != 0 {
            let at = self.at + escaped.trailing_zeros() as usize;
            escaped &= escaped - 1;
            let is_right = match self.bytes.get(at) {
                Some(b'r' | b'/' | b'b' | b'f') => true,
                Some(b'u') => self.bytes.get(at + 1..at + 5).is_some_and(|h| h.iter().all(u8::is_ascii_hexdigit)),
                _ => false,
            };
            if !is_right {
                return Err(syntax("no such escape in a JSON string", at));
            }
        }
        Ok(())
    }

    #[cold]
    fn refuse_control(&self, block: &[u8; 64], inside: u64) -> Result<()> {
        match bits(&lanes(block), control) & inside {
            0 => Ok(()),
            wrong => {
                let at = self.at + wrong.trailing_zeros() as usize;
                Err(syntax("a control character inside a string must be escaped", at))
            }
        }
    }

    fn finish(self) -> Result<Vec<Field>> {
        if self.high.to_bitmask() != 0 && simdutf8::basic::from_utf8(self.bytes).is_err() {
            return Err(Error::invalid("the body is not valid UTF-8").code("invalid_json"));
        }
        Ok(self.fields)
    }

    fn broken_off(&self) -> Error {
        syntax("the JSON ends in the middle", self.bytes.len())
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn blank(&mut self) {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.peek() {
            self.at += 1;
        }
    }
}

#[inline(always)]
fn lanes(block: &[u8; 64]) -> [u8x16; 4] {
    std::array::from_fn(|i| u8x16::new(std::array::from_fn(|j| block[i * 16 + j])))
}

#[inline(always)]
fn bits(lanes: &[u8x16; 4], test: impl Fn(u8x16) -> u8x16) -> u64 {
    let bit = |i: usize| u64::from(test(lanes[i]).to_bitmask()) << (i * 16);
    bit(0) | bit(1) | bit(2) | bit(3)
}

#[inline(always)]
fn equal(lanes: &[u8x16; 4], byte: u8) -> u64 {
    bits(lanes, |lane| is(lane, byte))
}

#[inline(always)]
fn is(lane: u8x16, byte: u8) -> u8x16 {
    lane.simd_eq(u8x16::splat(byte))
}

/// In a string a raw control character is wrong.
#[inline(always)]
fn control(lane: u8x16) -> u8x16 {
    lane.min(u8x16::splat(0x1f)).simd_eq(lane)
}

#[inline(always)]
fn has_control(lanes: &[u8x16; 4]) -> bool {
    control(lanes[0].min(lanes[1]).min(lanes[2].min(lanes[3]))).to_bitmask() != 0
}

/// The bytes that an odd run of backslashes stands before.
#[inline(always)]
fn escaped(backslashes: u64, escape_next: &mut bool) -> u64 {
    if backslashes == 0 {
        return u64::from(std::mem::take(escape_next));
    }
    const EVEN: u64 = 0x5555_5555_5555_5555;
    let carried = u64::from(*escape_next);
    let backslashes = backslashes & !carried;
    let follows = backslashes << 1 | carried;
    let odd_starts = backslashes & !EVEN & !follows;
    let (even_runs, overflows) = odd_starts.overflowing_add(backslashes);
    *escape_next = overflows;
    (EVEN ^ even_runs << 1) & follows
}

/// JSON's numbers: no leading zeros, digits on both sides of the point, digits after the exponent.
fn is_number(word: &[u8]) -> bool {
    let digits = |s: &[u8]| s.iter().take_while(|b| b.is_ascii_digit()).count();
    let word = word.strip_prefix(b"-").unwrap_or(word);
    let whole = digits(word);
    if whole == 0 || (whole > 1 && word[0] == b'0') {
        return false;
    }
    let mut rest = &word[whole..];
    if let Some(fraction) = rest.strip_prefix(b".") {
        let n = digits(fraction);
        if n == 0 {
            return false;
        }
        rest = &fraction[n..];
    }
    if let [b'e' | b'E', exponent @ ..] = rest {
        let exponent = exponent.strip_prefix(b"+").or(exponent.strip_prefix(b"-")).unwrap_or(exponent);
        let n = digits(exponent);
        return n > 0 && n == exponent.len();
    }
    rest.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde::de::IgnoredAny;
    use serde_json::value::RawValue;
    use std::collections::BTreeMap;

    /// What serde_json says of the same bytes: each field's key and raw value, or that they are wrong.
    fn oracle(bytes: &[u8]) -> Option<Vec<(String, String)>> {
        std::str::from_utf8(bytes).ok()?;
        serde_json::from_slice::<BTreeMap<IgnoredKey, IgnoredAny>>(bytes).ok()?;
        let mut fields = Vec::new();
        let mut de = serde_json::Deserializer::from_slice(bytes);
        serde::Deserializer::deserialize_map(&mut de, Pairs(&mut fields)).ok()?;
        de.end().ok()?;
        Some(fields)
    }

    #[derive(PartialEq, Eq, PartialOrd, Ord, serde::Deserialize)]
    struct IgnoredKey(String);

    struct Pairs<'a>(&'a mut Vec<(String, String)>);
    impl<'de> serde::de::Visitor<'de> for Pairs<'_> {
        type Value = ();
        fn expecting(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
            f.write_str("an object")
        }
        fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> std::result::Result<(), A::Error> {
            while let Some((key, value)) = map.next_entry::<&RawValue, &RawValue>()? {
                let key = key.get();
                self.0.push((key[1..key.len() - 1].into(), value.get().into()));
            }
            Ok(())
        }
    }

    fn deepest(bytes: &[u8]) -> usize {
        let (mut depth, mut deepest, mut in_string, mut escape) = (0usize, 0, false, false);
        for &b in bytes {
            match (in_string, b) {
                (true, _) if escape => escape = false,
                (true, b'\\') => escape = true,
                (_, b'"') => in_string = !in_string,
                (false, b'{' | b'[') => {
                    depth += 1;
                    deepest = deepest.max(depth);
                }
                (false, b'}' | b']') => depth = depth.saturating_sub(1),
                _ => {}
            }
        }
        deepest
    }

    fn agree(bytes: &[u8]) {
        let ours = object(bytes).ok().map(|fields| {
            let text = |r: Range<usize>| String::from_utf8(bytes[r].to_vec()).unwrap();
            fields.into_iter().map(|f| (text(f.key), text(f.value))).collect::<Vec<_>>()
        });
        if deepest(bytes) > MAX_DEPTH {
            return assert!(ours.is_none());
        }
        assert_eq!(ours, oracle(bytes), "{:?}", String::from_utf8_lossy(bytes));
    }

    #[test]
    fn it_notes_where_the_fields_stand() {
        let body = br#" {"model" : "a\"b", "n":[1,{"x":2}],"stream":true , "e":{} } "#;
        let fields = object(body).unwrap();
        let at = |i: usize| std::str::from_utf8(&body[fields[i].value.clone()]).unwrap();
        assert_eq!((at(0), at(1), at(2), at(3)), (r#""a\"b""#, r#"[1,{"x":2}]"#, "true", "{}"));
    }

    #[test]
    fn it_agrees_with_serde_json_on_known_traps() {
        let traps: &[&[u8]] = &[
            b"",
            b"{",
            b"{}",
            b"{} x",
            b"[]",
            b"{\"a\":1,}",
            b"{\"a\" 1}",
            b"{,}",
            b"{\"a\":}",
            b"{\"a\":01}",
            b"{\"a\":-}",
            b"{\"a\":1.}",
            b"{\"a\":1e}",
            b"{\"a\":1e+5}",
            b"{\"a\":\"\\x\"}",
            b"{\"a\":\"\\u12g4\"}",
            b"{\"a\":\"\n\"}",
            b"{\"a\":[1,,2]}",
            b"{\"a\":[}]}",
            b"{\"a\":tru}",
            b"{\"a\":\"\xff\"}",
            b"{\"a\"\"b\":1}",
            b"{\"a\":\"b\"c}",
            b"{\"a\":1 2}",
            b"{\"a\":nullnull}",
            b"{a:1}",
            b"{\"a\":\"\\",
            b"\xef\xbb\xbf{}",
            b"{\"a\":{\"b\":[{}]}}",
        ];
        traps.iter().for_each(|t| agree(t));
        for n in [126, 127, 128, 300] {
            agree(format!("{{\"a\":{}{}}}", "[".repeat(n - 1), "]".repeat(n - 1)).as_bytes());
        }
        for at in 40..90 {
            // Escapes, quotes and cuts on both sides of the 64-byte border.
            let pad = "x".repeat(at);
            for tail in ["\\\\", "\\\"", "\\\\\\\"", "\\u00e9", "é"] {
                agree(format!("{{\"{pad}{tail}\":\"{pad}{tail}\",\"b\":1}}").as_bytes());
                agree(format!("{{\"k\":\"{pad}{tail}").as_bytes());
            }
        }
    }

    fn factor() -> u32 {
        std::env::var("LLM_TEST_FACTOR").ok().and_then(|v| v.parse().ok()).unwrap_or(1)
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 10_000 * factor(), failure_persistence: None, ..ProptestConfig::default() })]
        #[test]
        fn it_agrees_with_serde_json_on_jumbled_json(parts in prop::collection::vec(
            prop::sample::select(vec!["{", "}", "[", "]", ",", ":", "\"", "\\", "\\u00e9", "\\n", " ", "\n", "\t", "a", "é", "model",
                "\"model\":", "\"a\"", "1", "-2.5e3", "true", "null", "{\"a\":1}", "[1,2]", "\u{1}", "0"]), 0..60), wrap in any::<bool>()) {
            let text = parts.concat();
            agree(text.as_bytes());
            if wrap {
                agree(format!("{{\"m\":{text}}}").as_bytes());
                agree(format!("{{\"m\":\"{text}\"}}").as_bytes());
            }
        }

        #[test]
        fn it_agrees_with_serde_json_when_a_byte_is_wrong(at in 0usize..400, byte in any::<u8>(), cut in 0usize..500) {
            let mut body = br#"{"model":"gpt","messages":[{"role":"system","content":"Be terse.\n\"Yes\" \\u00e9"},{"role":"user","content":[
                {"type":"text","text":"What is in this picture, and why? \\ or \/"},{"type":"image_url","image_url":{"url":"data:image/png;base64,AAAA"}}]}],
                "temperature":0.25,"max_tokens":-1,"stream":true,"stop":["a","b"],"logit_bias":{"50256":-100}, "n":1e0, "user":null}"#.to_vec();
            let at = at % body.len();
            body[at] = byte;
            agree(&body);
            agree(&body[..cut.min(body.len())]);
        }
    }
}
