//! One pass over a JSON body that checks it all and notes where the top-level fields stand; nothing is decoded.
//!
//! A body of 37 KB is mostly text inside strings, so strings are crossed 64 bytes at a time by bitmaps of their quotes
//! and escapes (simdjson's), and the little that stands between them is read byte by byte. It accepts exactly what
//! serde_json accepts, which a fuzz test holds it to; what is wrong never goes upstream.
use std::ops::Range;

use fearless_simd::{Level, dispatch, prelude::*, u8x16, u8x64};

use crate::error::{Error, Result};

/// Deeper nesting than this is refused, as serde_json does.
pub(crate) const MAX_DEPTH: usize = 127;

/// Where a value stands, with the key it has in an object.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Field {
    pub(crate) key: Range<usize>, // without its quotes; empty in an array
    pub(crate) value: Range<usize>,
}

/// The top-level fields of an object, in order, or the first so many of them; all of the body is checked.
pub(crate) fn object(bytes: &[u8], most: usize) -> Result<Vec<Field>> {
    match bytes.iter().find(|b| !is_blank(**b)) {
        Some(b'{') => noted(bytes, most),
        _ => Err(syntax("the body must be a JSON object", 0)),
    }
}

/// The fields of an object, or the elements of an array.
pub(crate) fn elements(bytes: &[u8]) -> Result<Vec<Field>> {
    noted(bytes, usize::MAX)
}

fn noted(bytes: &[u8], most: usize) -> Result<Vec<Field>> {
    // One build of the pass for each width of vectors that a processor may have.
    dispatch!(Level::new(), simd => Scan::new(simd, bytes).run(most))
}

#[cold]
fn syntax(what: &str, at: usize) -> Error {
    Error::invalid(format!("{what} (byte {at} of the body)")).code("invalid_json")
}

/// What every message repeats. The processor foresees that a key is one of these; where another ends it has to find out.
const USUAL: [&[u8]; 2] = [b"role\":", b"content\":"];

/// Where the pass is. All that touches it is inlined, and what is not gets values: so it lives in registers.
struct Scan<'a, S: Simd> {
    simd: S,
    bytes: &'a [u8],
    at: usize,
    depth: usize,
    objects: u128,  // bit `depth` says whether that level is an object
    high: u8x16<S>, // its sign bits: whether any string had a byte beyond ASCII
}

// What touches vectors is inlined into the build for them; see "manual inlining" of fearless_simd.
impl<'a, S: Simd> Scan<'a, S> {
    #[inline(always)]
    fn new(simd: S, bytes: &'a [u8]) -> Self {
        Scan { simd, bytes, at: 0, depth: 0, objects: 0, high: u8x16::splat(simd, 0) }
    }

    #[inline(always)]
    fn run(mut self, most: usize) -> Result<Vec<Field>> {
        let mut fields = Vec::with_capacity(16);
        let (mut key, mut from) = (0..0, 0); // of the top-level field that is being read
        self.blank();
        loop {
            if self.depth == 1 {
                from = self.at;
            }
            let mut is_whole = self.value()?;
            // An object that has begun goes on with a key, a list with a value; what is whole may close what it stands in.
            while is_whole {
                if self.depth == 1 && fields.len() < most {
                    fields.push(Field { key: key.clone(), value: from..self.at });
                }
                self.blank();
                if self.depth == 0 {
                    return self.finish(fields);
                }
                is_whole = self.closes()?;
            }
            if self.is_object() {
                let name = self.key()?;
                if self.depth == 1 {
                    key = name;
                }
            }
        }
    }

    /// Reads what begins here; `false` if that is an object or an array with something inside, which is read next.
    #[inline(always)]
    fn value(&mut self) -> Result<bool> {
        match self.peek() {
            Some(b'"') => self.string()?,
            Some(open @ (b'{' | b'[')) => return self.opens(open == b'{'),
            Some(_) => self.at += scalar(self.bytes, self.at)?,
            None => return Err(broken_off(self.bytes)),
        }
        Ok(true)
    }

    #[inline(always)]
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
        Ok(false)
    }

    #[inline(always)]
    fn is_object(&self) -> bool {
        self.objects >> self.depth & 1 == 1
    }

    /// Behind a value: a comma, or a bracket that closes what it stands in (`true`).
    #[inline(always)]
    fn closes(&mut self) -> Result<bool> {
        let object = self.is_object();
        match self.peek() {
            Some(b',') => {
                self.at += 1;
                self.blank();
                return Ok(false);
            }
            Some(b'}') if object => {}
            Some(b']') if !object => {}
            Some(b'}' | b']') => return Err(syntax("a bracket closes what is not open", self.at)),
            Some(_) => return Err(syntax("a comma or the closing bracket is missing", self.at)),
            None => return Err(broken_off(self.bytes)),
        }
        self.at += 1;
        self.depth -= 1;
        Ok(true)
    }

    /// A key with its colon; where it stands, without its quotes.
    #[inline(always)]
    fn key(&mut self) -> Result<Range<usize>> {
        self.expect(b'"', "a key must stand here, in double quotes")?;
        let from = self.at + 1;
        if let Some(usual) = USUAL.iter().find(|usual| self.bytes[from..].starts_with(usual)) {
            self.at = from + usual.len();
            self.blank();
            return Ok(from..from + usual.len() - 2);
        }
        self.string()?;
        let key = from..self.at - 1;
        self.blank();
        self.expect(b':', "a colon must stand behind a key")?;
        self.at += 1;
        self.blank();
        Ok(key)
    }

    #[inline(always)]
    fn expect(&self, byte: u8, else_wrong: &str) -> Result<()> {
        match self.peek() {
            Some(found) if found == byte => Ok(()),
            Some(_) => Err(syntax(else_wrong, self.at)),
            None => Err(broken_off(self.bytes)),
        }
    }

    /// Goes behind the string that begins here.
    #[inline(always)]
    fn string(&mut self) -> Result<()> {
        self.at += 1;
        // Keys and names are short, and plain.
        if let Some(bytes) = self.bytes[self.at..].first_chunk::<16>() {
            let lane = u8x16::load_array_ref(self.simd, bytes);
            let special = lane.simd_eq(b'"') | lane.simd_eq(b'\\') | lane.simd_lt(b' ');
            let length = special.to_bitmask().trailing_zeros() as usize;
            if bytes.get(length) == Some(&b'"') {
                self.high |= lane;
                self.at += length + 1;
                return Ok(());
            }
        }
        let (simd, bytes, at) = (self.simd, self.bytes, self.at);
        let (end, high) = simd.vectorize(
            #[inline(always)]
            || long_string(simd, bytes, at),
        )?;
        self.at = end;
        self.high |= high;
        Ok(())
    }

    #[inline(always)]
    fn finish(self, fields: Vec<Field>) -> Result<Vec<Field>> {
        if self.at < self.bytes.len() {
            return Err(syntax("something stands behind the end of the JSON", self.at));
        }
        if self.high.simd_ge(0x80).any_true() && simdutf8::basic::from_utf8(self.bytes).is_err() {
            return Err(Error::invalid("the body is not valid UTF-8").code("invalid_json"));
        }
        Ok(fields)
    }

    #[inline(always)]
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    #[inline(always)]
    fn blank(&mut self) {
        while self.peek().is_some_and(is_blank) {
            self.at += 1;
        }
    }
}

/// The end of the string whose first byte stands at `at`, and the sign bits of what it has.
#[inline(always)]
fn long_string<S: Simd>(simd: S, bytes: &[u8], mut at: usize) -> Result<(usize, u8x16<S>)> {
    let mut escape = false;
    let mut high = u8x64::splat(simd, 0);
    while at < bytes.len() {
        let rest = &bytes[at..];
        let block = match rest.first_chunk() {
            Some(block) => u8x64::load_array_ref(simd, block),
            None => u8x64::from_fn(simd, |i| rest.get(i).copied().unwrap_or(b' ')),
        };
        high |= block;
        let ends = string_block(bytes, at, block, &mut escape)?;
        if ends != 0 {
            let (low, upper) = high.split();
            let (low, upper) = (low | upper).split();
            return Ok((at + ends.trailing_zeros() as usize + 1, low | upper));
        }
        at += 64;
    }
    Err(broken_off(bytes))
}

/// Checks 64 bytes of a string, up to its end; the quotes that may be this end, a bit each.
#[inline(always)]
fn string_block<S: Simd>(bytes: &[u8], at: usize, block: u8x64<S>, escape: &mut bool) -> Result<u64> {
    let bits = |byte: u8| block.simd_eq(byte).to_bitmask();
    let (quotes, backslashes) = (bits(b'"'), bits(b'\\'));
    let escaped = escaped(backslashes, escape);
    let ends = quotes & !escaped;
    let inside = ends ^ ends.wrapping_sub(1); // up to the first of them
    // Nearly all of them are quotes, backslashes, line ends and tabs.
    let unusual = escaped & inside & !(quotes | backslashes);
    if unusual != 0 {
        let rare = unusual & !(bits(b'n') | bits(b't'));
        if rare != 0 {
            check_escapes(bytes, at, rare)?;
        }
    }
    let control = block.simd_lt(b' ').to_bitmask() & inside;
    if control != 0 {
        let at = at + control.trailing_zeros() as usize;
        return Err(syntax("a control character inside a string must be escaped", at));
    }
    Ok(ends)
}

fn check_escapes(bytes: &[u8], at: usize, mut escaped: u64) -> Result<()> {
    while escaped != 0 {
        let at = at + escaped.trailing_zeros() as usize;
        escaped &= escaped - 1;
        let is_right = match bytes.get(at) {
            Some(b'r' | b'/' | b'b' | b'f') => true,
            Some(b'u') => bytes.get(at + 1..at + 5).is_some_and(|h| h.iter().all(u8::is_ascii_hexdigit)),
            _ => false,
        };
        if !is_right {
            return Err(syntax("no such escape in a JSON string", at));
        }
    }
    Ok(())
}

/// The length of the number or word that stands at `at`.
fn scalar(bytes: &[u8], at: usize) -> Result<usize> {
    let rest = &bytes[at..];
    let length = rest.iter().position(|b| b" \t\r\n,:{}[]\"".contains(b)).unwrap_or(rest.len());
    let word = &rest[..length];
    if !(matches!(word, b"true" | b"false" | b"null") || is_number(word)) {
        return Err(syntax("this is no JSON value", at));
    }
    Ok(length)
}

#[cold]
fn broken_off(bytes: &[u8]) -> Error {
    syntax("the JSON ends in the middle", bytes.len())
}

fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\n' | b'\r' | b'\t')
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
        let ours = object(bytes, usize::MAX).ok().map(|fields| {
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
        let fields = object(body, usize::MAX).unwrap();
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
