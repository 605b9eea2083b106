//! The keys and values of a GGUF header; long lists are counted and passed over, not kept.

use std::collections::HashMap;
use std::io::{Read, Seek};

use super::Problem;
use super::source::Source;

// Bounds far above every published model (about 50 keys, a million tokens), far below what could hurt.
const MOST_KEYS: u64 = 4_096;
const LONGEST_KEY: u64 = 1_024;
const LONGEST_TEXT: u64 = 4_096;
const MOST_ELEMENTS: u64 = 1 << 24;
const MOST_TOKENS: u64 = 1 << 22;
const LONGEST_TOKEN: u64 = 1 << 16;

/// The vocabulary: a text per token, the only list whose elements matter.
pub(super) const TOKENS: &str = "tokenizer.ggml.tokens";

/// What a key says, as far as anyone here asks.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    Whole(i128),
    Real(f64),
    Truth(bool),
    /// At most the first 4,096 bytes.
    Text(String),
    /// How many elements, and the largest if they are whole numbers (heads are sometimes listed layer by layer).
    List {
        count: u64,
        largest: Option<i128>,
    },
}

/// Every key of a file with its value.
pub(super) struct Metadata(HashMap<String, Value>);

impl Metadata {
    pub(super) fn read<R: Read + Seek>(source: &mut Source<R>, count: u64) -> Result<Metadata, Problem> {
        let mut values = HashMap::new();
        for _ in 0..count {
            let key = source.name("a key", LONGEST_KEY)?;
            let kind = source.u32()?;
            let value = read_value(source, &key, kind)?;
            if values.insert(key.clone(), value).is_some() {
                return Problem::damaged(format!("the key {key} stands there twice"));
            }
        }
        Ok(Metadata(values))
    }

    /// How many keys follow; each takes at least a length, a letter, a type and a byte.
    pub(super) fn count<R: Read + Seek>(source: &mut Source<R>) -> Result<u64, Problem> {
        source.count("keys", MOST_KEYS, 14)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value))
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.0.contains_key(key)
    }

    pub(super) fn text(&self, key: &str) -> Option<&str> {
        match self.0.get(key)? {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    pub(super) fn truth(&self, key: &str) -> Option<bool> {
        match *self.0.get(key)? {
            Value::Truth(truth) => Some(truth),
            _ => None,
        }
    }

    /// A whole number, or the largest of a list of them.
    pub(super) fn whole(&self, key: &str) -> Option<i128> {
        match *self.0.get(key)? {
            Value::Whole(number) => Some(number),
            Value::List { largest, .. } => largest,
            _ => None,
        }
    }

    pub(super) fn list(&self, key: &str) -> Option<u64> {
        match *self.0.get(key)? {
            Value::List { count, .. } => Some(count),
            _ => None,
        }
    }
}

const TEXT: u32 = 8;
const LIST: u32 = 9;

fn read_value<R: Read + Seek>(source: &mut Source<R>, key: &str, kind: u32) -> Result<Value, Problem> {
    match kind {
        TEXT => source.text(LONGEST_TEXT).map(Value::Text),
        LIST => read_list(source, key),
        _ => read_scalar(source, key, kind),
    }
}

fn read_scalar<R: Read + Seek>(source: &mut Source<R>, key: &str, kind: u32) -> Result<Value, Problem> {
    Ok(match kind {
        0 => Value::Whole(u8::from_le_bytes(source.bytes()?).into()),
        1 => Value::Whole(i8::from_le_bytes(source.bytes()?).into()),
        2 => Value::Whole(u16::from_le_bytes(source.bytes()?).into()),
        3 => Value::Whole(i16::from_le_bytes(source.bytes()?).into()),
        4 => Value::Whole(source.u32()?.into()),
        5 => Value::Whole(i32::from_le_bytes(source.bytes()?).into()),
        6 => Value::Real(f32::from_le_bytes(source.bytes()?).into()),
        7 => Value::Truth(source.bytes::<1>()? != [0]),
        10 => Value::Whole(source.u64()?.into()),
        11 => Value::Whole(i64::from_le_bytes(source.bytes()?).into()),
        12 => Value::Real(f64::from_le_bytes(source.bytes()?)),
        _ => return Problem::damaged(format!("the key {key} has the unknown type {kind}")),
    })
}

fn read_list<R: Read + Seek>(source: &mut Source<R>, key: &str) -> Result<Value, Problem> {
    let kind = source.u32()?;
    let each =
        least_bytes(kind).map_or_else(|| Problem::damaged(format!("{key} lists the unknown type {kind}")), Ok)?;
    let count = source.count(&format!("elements of {key}"), MOST_ELEMENTS, each)?;
    // A list per layer is short and is looked at; vocabularies are long and only counted.
    let largest = match (kind, count) {
        (TEXT, _) if key == TOKENS => distinct_tokens(source, count)?,
        (TEXT, _) => skip_texts(source, count)?,
        (_, 1..=1_024) => read_largest(source, key, kind, count)?,
        _ => source.skip(count * each).map(|()| None)?,
    };
    Ok(Value::List { count, largest })
}

fn skip_texts<R: Read + Seek>(source: &mut Source<R>, count: u64) -> Result<Option<i128>, Problem> {
    (0..count).try_for_each(|_| source.skip_text())?;
    Ok(None)
}

/// llama.cpp finds tokens by their text, and aborts the process when two have the same; empty ones it numbers.
fn distinct_tokens<R: Read + Seek>(source: &mut Source<R>, count: u64) -> Result<Option<i128>, Problem> {
    if count > MOST_TOKENS {
        return Problem::damaged(format!("it claims {count} tokens, and {MOST_TOKENS} is the most"));
    }
    let mut hashes = Vec::new();
    for _ in 0..count {
        hashes.extend(source.hash_text(LONGEST_TOKEN)?);
    }
    hashes.sort_unstable();
    match hashes.array_windows().any(|[one, next]| one == next) {
        true => Problem::damaged("two tokens of its vocabulary are the same"),
        false => Ok(None),
    }
}

fn read_largest<R: Read + Seek>(
    source: &mut Source<R>,
    key: &str,
    kind: u32,
    count: u64,
) -> Result<Option<i128>, Problem> {
    let mut largest = None;
    for _ in 0..count {
        if let Value::Whole(number) = read_scalar(source, key, kind)? {
            largest = largest.max(Some(number));
        }
    }
    Ok(largest)
}

/// What one element takes at least. Lists of lists are refused, as llama.cpp does.
fn least_bytes(kind: u32) -> Option<u64> {
    match kind {
        0 | 1 | 7 => Some(1),
        2 | 3 => Some(2),
        4..=6 => Some(4),
        TEXT | 10..=12 => Some(8),
        _ => None,
    }
}
