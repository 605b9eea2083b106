//! A conversation of 37 KB about code, as an editor sends it: quotes, newlines, tabs and escapes everywhere.

use serde_json::{Value, json};

const SYSTEM: &str = "You are a careful programmer. Answer with code where code says it best.\n\
    - Keep the user's style: tabs stay tabs, \"double quotes\" stay double.\n- Never invent an API; say \"I don't know\".";

/// Questions and answers as they are in real conversations: prose, fenced code, a log, JSON inside JSON.
const TURNS: [(&str, &str); 4] = [
    (
        "user",
        "Why does this panic with \"index out of bounds\"?\n\n```rust\nfn head<'a>(line: &'a str, rest: &mut Vec<&'a str>) -> Option<&'a str> {\n\tlet parts: Vec<&str> = line.split(\"\\t\").collect();\n\trest.extend(&parts[1..]);\n\tif parts[0] == \"\\\\\" || parts[0].is_empty() {\n\t\treturn None;\n\t}\n\tSome(parts[0])\n}\n```\n\nThe log says:\n\nthread 'main' panicked at src/main.rs:4:17:\nrange start index 1 out of range for slice of length 0\n",
    ),
    (
        "assistant",
        "`split` always yields at least one part, so `parts[1..]` is fine there; the log is from another line:\n\n```rust\nlet (name, value) = pair.split_once('=').unwrap_or((pair, \"\"));\nprintln!(\"{name:?} -> {value:?}\\n\");\n```\n\nIt is the slice in `main` that is empty. Compare `C:\\Users\\me\\a.txt` with \"C:/Users/me/a.txt\": the first has no '/'.\n",
    ),
    (
        "user",
        "Thanks. And the same in Python, please - it must read this file:\n\n{\"name\": \"caf\u{e9}\", \"path\": \"C:\\\\data\\\\in.csv\", \"pattern\": \"^\\\\s*\\\"(.*)\\\"$\", \"nested\": {\"model\": \"not-this-one\", \"stream\": true}}\n",
    ),
    (
        "assistant",
        "```python\nimport json, re\n\ndef read(path: str) -> dict[str, str]:\n    \"\"\"Read \"name: value\" lines; '#' begins a comment.\"\"\"\n    with open(path, encoding=\"utf-8\") as file:\n        rows = [re.sub(r'\\s+#.*$', \"\", row.rstrip(\"\\n\")) for row in file]\n    return {k.strip(): json.loads(v) for k, v in (row.split(\":\", 1) for row in rows if \":\" in row)}\n```\n\nNote the raw string: without `r'...'` the backslash in `\\s` would be Python's own escape.\n",
    ),
];

/// The size of the body, as clients of editors send it.
const SIZE: usize = 37_000;

/// The order in which client libraries write the fields.
pub(super) fn model_first() -> String {
    format!(r#"{{"model":"tiny","messages":{},"temperature":0.2,"max_tokens":512}}"#, messages())
}

/// The worst order: what the gateway must know stands behind everything else.
pub(super) fn model_last() -> String {
    format!(r#"{{"max_tokens":512,"temperature":0.2,"messages":{},"model":"tiny"}}"#, messages())
}

fn messages() -> Value {
    let mut messages = vec![json!({"role": "system", "content": SYSTEM})];
    let turns = TURNS.iter().cycle().zip(1..).map(|((role, text), turn)| message(role, text, turn));
    let mut size = 0;
    messages.extend(turns.take_while(|message| {
        size += message.to_string().len();
        size < SIZE
    }));
    messages.push(json!({"role": "user", "content": "Now write a test for both."}));
    messages.into()
}

fn message(role: &str, text: &str, turn: usize) -> Value {
    json!({"role": role, "content": format!("({turn}) {text}")})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_conversation_weighs_what_it_says_and_its_fields_stand_where_they_should() {
        let (first, last) = (model_first(), model_last());
        assert!((36_000..38_000).contains(&first.len()), "{}", first.len());
        assert!(first.starts_with(r#"{"model""#), "{}", &first[..40]);
        assert!(last.ends_with(r#""model":"tiny"}"#), "{}", &last[last.len() - 40..]);
    }
}
