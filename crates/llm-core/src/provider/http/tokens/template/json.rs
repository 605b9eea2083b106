//! `tojson` as transformers has it: Python's `json.dumps`, which puts spaces where Jinja's own filter and serde_json put none.
use minijinja::value::{Kwargs, ValueKind};
use minijinja::{Error, ErrorKind, Value};

/// What `json.dumps` is told.
struct Style {
    item: String,
    key: String,
    indent: Option<usize>,
    sorted: bool,
    ascii: bool,
}

/// The filter.
pub(super) fn tojson(value: &Value, indent: Option<usize>, options: Kwargs) -> Result<String, Error> {
    let indent = indent.or(options.get("indent")?);
    let separators: Option<(String, String)> = options.get::<Option<Vec<String>>>("separators")?.and_then(|list| {
        let [item, key] = <[String; 2]>::try_from(list).ok()?;
        Some((item, key))
    });
    let usual = || (if indent.is_some() { "," } else { ", " }.to_owned(), ": ".to_owned());
    let (item, key) = separators.unwrap_or_else(usual);
    let sorted = options.get::<Option<bool>>("sort_keys")?.unwrap_or_default();
    let ascii = options.get::<Option<bool>>("ensure_ascii")?.unwrap_or_default();
    options.assert_all_used()?;
    let mut out = String::new();
    write(&mut out, value, &Style { item, key, indent, sorted, ascii }, 0)?;
    Ok(out)
}

fn write(out: &mut String, value: &Value, style: &Style, depth: usize) -> Result<(), Error> {
    match value.kind() {
        ValueKind::Undefined | ValueKind::None => out.push_str("null"),
        ValueKind::Bool => out.push_str(if value.is_true() { "true" } else { "false" }),
        ValueKind::Number => out.push_str(&number(value)),
        ValueKind::String => string(out, value.as_str().unwrap_or_default(), style),
        ValueKind::Map => return map(out, value, style, depth),
        ValueKind::Seq | ValueKind::Iterable => {
            let items: Vec<Value> = value.try_iter()?.collect();
            return between(out, "[]", items, style, depth, |out, item| write(out, &item, style, depth + 1));
        }
        other => return Err(Error::new(ErrorKind::InvalidOperation, format!("{other} is no JSON"))),
    }
    Ok(())
}

fn map(out: &mut String, value: &Value, style: &Style, depth: usize) -> Result<(), Error> {
    let mut keys: Vec<Value> = value.try_iter()?.collect();
    if style.sorted {
        keys.sort();
    }
    between(out, "{}", keys, style, depth, |out, key| {
        string(out, &key.to_string(), style);
        out.push_str(&style.key);
        write(out, &value.get_item(&key)?, style, depth + 1)
    })
}

/// What stands in a list or an object, with commas between and lines around, if there are to be any.
fn between(
    out: &mut String,
    brackets: &str,
    items: Vec<Value>,
    style: &Style,
    depth: usize,
    mut each: impl FnMut(&mut String, Value) -> Result<(), Error>,
) -> Result<(), Error> {
    let (open, close) = brackets.split_at(1);
    let line = |out: &mut String, depth: usize| {
        if let Some(indent) = style.indent {
            out.push('\n');
            out.extend(std::iter::repeat_n(' ', indent * depth));
        }
    };
    out.push_str(open);
    let is_empty = items.is_empty();
    for (i, item) in items.into_iter().enumerate() {
        if i > 0 {
            out.push_str(&style.item);
        }
        line(out, depth + 1);
        each(out, item)?;
    }
    if !is_empty {
        line(out, depth);
    }
    out.push_str(close);
    Ok(())
}

/// Python writes an exponent with its sign and two digits.
fn number(value: &Value) -> String {
    if value.is_integer() {
        return value.to_string();
    }
    let text = f64::try_from(value.clone()).map_or_else(|_| value.to_string(), |number| format!("{number:?}"));
    match text.split_once('e') {
        Some((digits, exponent)) => {
            let (sign, exponent) = exponent.strip_prefix('-').map_or(('+', exponent), |rest| ('-', rest));
            format!("{digits}e{sign}{exponent:0>2}")
        }
        None => text,
    }
}

fn string(out: &mut String, text: &str, style: &Style) {
    let json = serde_json::to_string(text).unwrap_or_default();
    if !style.ascii {
        return out.push_str(&json);
    }
    for c in json.chars() {
        match c {
            c if c.is_ascii() => out.push(c),
            c => c.encode_utf16(&mut [0; 2]).iter().for_each(|unit| out.push_str(&format!("\\u{unit:04x}"))),
        }
    }
}
