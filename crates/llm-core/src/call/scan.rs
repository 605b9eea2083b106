//! One pass over a JSON body that checks it all and notes where the top-level fields stand; nothing is decoded.
//!
//! A body of 37 KB is mostly text inside strings, so 64 bytes at a time are compared at once and only quotes, escapes,
//! brackets and the starts of numbers are visited one by one (the bitmaps are simdjson's). It accepts exactly what
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
    if bytes.iter().find(|b| !b" \t\r\n".contains(b)) != Some(&b'{') {
        return Err(syntax("the body must be a JSON object", 0));
    }
    Scan::new(bytes).run()
}

/// The elements of an array that was checked before.
pub(crate) fn elements(bytes: &[u8]) -> Result<Vec<Field>> {
    Scan::new(bytes).run()
}

fn syntax(what: &str, at: usize) -> Error {
    Error::invalid(format!("{what} (byte {at} of the body)")).code("invalid_json")
}

#[derive(Clone, Copy, PartialEq)]
enum Expect {
    Value,
    ValueOrEnd,
    Key,
    KeyOrEnd,
    Colon,
    CommaOrEnd,
    Nothing,
}

struct Scan<'a> {
    bytes: &'a [u8],
    fields: Vec<Field>,
    expect: Expect,
    depth: usize,
    objects: u128, // bit `depth` says whether that level is an object
    string_from: usize,
    is_key: bool,
    current: Field,
}

/// What of a block of 64 bytes is worth a visit: a bit a byte.
struct Block {
    quotes: u64,
    escaped: u64,
    in_string: u64,
    control: u64,
}

impl<'a> Scan<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        let current = Field { key: 0..0, value: 0..0 };
        let fields = Vec::with_capacity(16);
        let expect = Expect::Value;
        Scan { bytes, fields, expect, depth: 0, objects: 0, string_from: 0, is_key: false, current }
    }

    fn run(mut self) -> Result<Vec<Field>> {
        let (mut was_in_string, mut escape_next, mut scalar_before, mut high) = (false, false, false, 0u64);
        for (index, chunk) in self.bytes.chunks(64).enumerate() {
            let base = index * 64;
            let padded: [u8; 64] = match chunk.try_into() {
                Ok(whole) => whole,
                Err(_) => std::array::from_fn(|i| chunk.get(i).copied().unwrap_or(b' ')),
            };
            let lanes = lanes(&padded);
            high |= bits(&lanes, |v| v);
            let block = Block::new(&lanes, was_in_string, &mut escape_next);
            if block.escaped & block.in_string != 0 {
                self.check_escapes(base, block.escaped & block.in_string)?;
            }
            // In a string a raw control character is wrong; the padding of the last block is blank.
            if block.control & block.in_string != 0 {
                let at = base + (block.control & block.in_string).trailing_zeros() as usize;
                return Err(syntax("a control character inside a string must be escaped", at));
            }
            let ends_in_string = block.in_string >> 63 == 1;
            if !(was_in_string && block.quotes == 0) {
                self.visit(base, &lanes, &block, &mut scalar_before)?;
            }
            was_in_string = ends_in_string;
        }
        if high != 0 && std::str::from_utf8(self.bytes).is_err() {
            return Err(Error::invalid("the body is not valid UTF-8").code("invalid_json"));
        }
        match (was_in_string, self.expect) {
            (false, Expect::Nothing) => Ok(self.fields),
            _ => Err(syntax("the JSON ends in the middle", self.bytes.len())),
        }
    }

    /// Visits what stands outside strings, and the quotes.
    fn visit(&mut self, base: usize, lanes: &[u8x16; 4], block: &Block, scalar_before: &mut bool) -> Result<()> {
        let (operators, blank) = (operators(lanes), blanks(lanes));
        let outside = !block.in_string & !block.quotes;
        let scalar = outside & !operators & !blank;
        let starts = scalar & !(scalar << 1 | u64::from(*scalar_before));
        *scalar_before = scalar >> 63 == 1;
        let mut left = block.quotes | (operators & outside) | starts;
        while left != 0 {
            let bit = left.trailing_zeros() as usize;
            left &= left - 1;
            let opens = block.in_string >> bit & 1 == 1;
            match self.bytes[base + bit] {
                b'"' if opens => self.string_opens(base + bit)?,
                b'"' => self.string_closes(base + bit),
                b'{' => self.opens(base + bit, true)?,
                b'[' => self.opens(base + bit, false)?,
                b'}' => self.closes(base + bit, true)?,
                b']' => self.closes(base + bit, false)?,
                b',' => self.comma(base + bit)?,
                b':' => self.colon(base + bit)?,
                _ => self.scalar(base + bit)?,
            }
        }
        Ok(())
    }

    fn check_escapes(&self, base: usize, mut escaped: u64) -> Result<()> {
        while escaped != 0 {
            let at = base + escaped.trailing_zeros() as usize;
            escaped &= escaped - 1;
            let ok = match self.bytes.get(at) {
                Some(b'u') => self.bytes.get(at + 1..at + 5).is_some_and(|h| h.iter().all(u8::is_ascii_hexdigit)),
                Some(b) => br#""\/bfnrt"#.contains(b),
                None => true, // the body ends here, which is told at the end
            };
            if !ok {
                return Err(syntax("no such escape in a JSON string", at));
            }
        }
        Ok(())
    }

    fn in_object(&self) -> bool {
        self.depth > 0 && self.objects >> self.depth & 1 == 1
    }

    fn value_starts(&mut self, at: usize) -> Result<()> {
        if !matches!(self.expect, Expect::Value | Expect::ValueOrEnd) {
            return Err(syntax("a value stands where none may", at));
        }
        if self.depth == 1 {
            self.current.value.start = at;
        }
        Ok(())
    }

    fn value_ends(&mut self, end: usize) {
        self.expect = if self.depth == 0 { Expect::Nothing } else { Expect::CommaOrEnd };
        if self.depth == 1 {
            self.current.value.end = end;
            self.fields.push(self.current.clone());
        }
    }

    fn string_opens(&mut self, at: usize) -> Result<()> {
        self.is_key = matches!(self.expect, Expect::Key | Expect::KeyOrEnd);
        self.string_from = at;
        if self.is_key { Ok(()) } else { self.value_starts(at) }
    }

    fn string_closes(&mut self, at: usize) {
        if !self.is_key {
            return self.value_ends(at + 1);
        }
        if self.depth == 1 {
            self.current.key = self.string_from + 1..at;
        }
        self.expect = Expect::Colon;
    }

    fn opens(&mut self, at: usize, object: bool) -> Result<()> {
        self.value_starts(at)?;
        if self.depth == MAX_DEPTH {
            return Err(syntax("the JSON is nested too deeply: 127 levels at most", at));
        }
        self.depth += 1;
        self.objects = self.objects & !(1 << self.depth) | u128::from(object) << self.depth;
        self.expect = if object { Expect::KeyOrEnd } else { Expect::ValueOrEnd };
        Ok(())
    }

    fn closes(&mut self, at: usize, object: bool) -> Result<()> {
        let may = matches!(self.expect, Expect::CommaOrEnd)
            || self.expect == if object { Expect::KeyOrEnd } else { Expect::ValueOrEnd };
        if !may || self.depth == 0 || self.in_object() != object {
            return Err(syntax("a bracket closes what is not open", at));
        }
        self.depth -= 1;
        self.value_ends(at + 1);
        Ok(())
    }

    fn comma(&mut self, at: usize) -> Result<()> {
        if self.expect != Expect::CommaOrEnd {
            return Err(syntax("a comma stands where none may", at));
        }
        self.expect = if self.in_object() { Expect::Key } else { Expect::Value };
        Ok(())
    }

    fn colon(&mut self, at: usize) -> Result<()> {
        if self.expect != Expect::Colon {
            return Err(syntax("a colon stands where none may", at));
        }
        self.expect = Expect::Value;
        Ok(())
    }

    fn scalar(&mut self, at: usize) -> Result<()> {
        self.value_starts(at)?;
        let rest = &self.bytes[at..];
        let length = rest.iter().position(|b| b" \t\r\n,:{}[]\"".contains(b)).unwrap_or(rest.len());
        let word = &rest[..length];
        if !(matches!(word, b"true" | b"false" | b"null") || is_number(word)) {
            return Err(syntax("this is no JSON value", at));
        }
        self.value_ends(at + length);
        Ok(())
    }
}

impl Block {
    fn new(lanes: &[u8x16; 4], was_in_string: bool, escape_next: &mut bool) -> Block {
        let escaped = escaped(equal(lanes, b'\\'), escape_next);
        let quotes = equal(lanes, b'"') & !escaped;
        // A prefix xor over the quotes: every byte from an opening quote up to before its closing one.
        let in_string = prefix_xor(quotes) ^ if was_in_string { u64::MAX } else { 0 };
        let control = bits(lanes, |v| v.min(u8x16::splat(0x1f)).simd_eq(v));
        Block { quotes, escaped, in_string, control }
    }
}

fn lanes(block: &[u8; 64]) -> [u8x16; 4] {
    std::array::from_fn(|i| u8x16::new(std::array::from_fn(|j| block[i * 16 + j])))
}

fn bits(lanes: &[u8x16; 4], test: impl Fn(u8x16) -> u8x16) -> u64 {
    let bit = |i: usize| u64::from(test(lanes[i]).to_bitmask()) << (i * 16);
    bit(0) | bit(1) | bit(2) | bit(3)
}

fn equal(lanes: &[u8x16; 4], byte: u8) -> u64 {
    bits(lanes, |v| v.simd_eq(u8x16::splat(byte)))
}

/// Brackets, commas and colons. `[` and `{` differ in one bit, and so do `]` and `}`.
fn operators(lanes: &[u8x16; 4]) -> u64 {
    let is = |v: u8x16, b: u8| v.simd_eq(u8x16::splat(b));
    bits(lanes, |v| {
        let folded = v | u8x16::splat(0x20);
        is(folded, b'{') | is(folded, b'}') | is(v, b',') | is(v, b':')
    })
}

fn blanks(lanes: &[u8x16; 4]) -> u64 {
    let is = |v: u8x16, b: u8| v.simd_eq(u8x16::splat(b));
    bits(lanes, |v| is(v, b' ') | is(v, b'\n') | is(v, b'\r') | is(v, b'\t'))
}

/// The bytes that an odd run of backslashes stands before.
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

fn prefix_xor(mut bits: u64) -> u64 {
    for shift in [1, 2, 4, 8, 16, 32] {
        bits ^= bits << shift;
    }
    bits
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
