//! The files of the checkout, and Rust code without its comments, strings and tests.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{fs, iter};

/// A file: its path from the root of the checkout, its text, and the part of the text that is the program.
#[derive(Clone)]
pub(crate) struct Source {
    pub(crate) path: String,
    pub(crate) text: String,
    /// The text with comments, strings and test modules blanked out; line numbers stay.
    pub(crate) code: String,
}

impl Source {
    pub(crate) fn new(path: &str, text: &str) -> Source {
        let code = if is_test_file(path) { String::new() } else { without_tests(&without_prose(text)) };
        Source { path: path.to_owned(), text: text.to_owned(), code }
    }

    /// `path:line` for each line of the program that `wanted` picks.
    pub(crate) fn lines(&self, wanted: impl Fn(&str) -> bool) -> impl Iterator<Item = String> {
        self.code
            .lines()
            .enumerate()
            .filter(move |(_, line)| wanted(line))
            .map(|(n, _)| format!("{}:{}", self.path, n + 1))
    }
}

fn is_test_file(path: &str) -> bool {
    path.ends_with("/tests.rs") || path.split('/').rev().skip(1).any(|folder| folder == "tests")
}

pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the workspace").to_owned()
}

/// Every text file that git tracks or would; where there is no git, every file that is not plainly somebody's build.
pub(crate) fn tracked_files() -> Vec<Source> {
    let listed = Command::new("git").args(["ls-files", "-co", "--exclude-standard"]).current_dir(root()).output();
    let paths = match listed {
        Ok(out) if out.status.success() => String::from_utf8_lossy(&out.stdout).lines().map(PathBuf::from).collect(),
        _ => walk(Path::new("")),
    };
    assert!(paths.len() > 20, "the checkout has more files than {}", paths.len());
    paths
        .iter()
        .filter_map(|path| Some(Source::new(path.to_str()?, &fs::read_to_string(root().join(path)).ok()?)))
        .collect()
}

pub(crate) fn rust_sources() -> Vec<Source> {
    tracked_files().into_iter().filter(|file| file.path.ends_with(".rs")).collect()
}

/// Name and text of each crate's manifest.
pub(crate) fn manifests() -> Vec<(String, String)> {
    let crates = fs::read_dir(root().join("crates")).expect("the crates lie in crates/");
    crates
        .filter_map(|entry| {
            let entry = entry.expect("crates/ can be listed");
            Some((entry.file_name().into_string().ok()?, fs::read_to_string(entry.path().join("Cargo.toml")).ok()?))
        })
        .collect()
}

fn walk(folder: &Path) -> Vec<PathBuf> {
    let hidden = |name: &str| name.starts_with('.') || ["target", "node_modules", "__pycache__"].contains(&name);
    let entries = fs::read_dir(root().join(folder)).expect("the checkout can be listed");
    let paths = entries.map(|entry| folder.join(entry.expect("the checkout can be listed").file_name()));
    let wanted = paths.filter(|path| !path.file_name().and_then(|n| n.to_str()).is_none_or(hidden));
    wanted.flat_map(|path| if root().join(&path).is_dir() { walk(&path) } else { vec![path] }).collect()
}

/// Blanks out comments and the inside of strings; every newline stays where it was.
fn without_prose(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(next) = rest.chars().next() {
        let prose = prose_length(rest, out.chars().next_back());
        if prose == 0 {
            out.push(next);
            rest = &rest[next.len_utf8()..];
        } else {
            out.extend(rest[..prose].chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
            rest = &rest[prose..];
        }
    }
    out
}

/// How many bytes of comment, string or character literal `rest` begins with.
fn prose_length(rest: &str, before: Option<char>) -> usize {
    let until = |end: &str, from: usize| rest[from..].find(end).map_or(rest.len(), |at| from + at + end.len());
    if rest.starts_with("//") {
        return rest.find('\n').unwrap_or(rest.len());
    }
    if rest.starts_with("/*") {
        return until("*/", 2);
    }
    if let Some(string) = rest.strip_prefix('"') {
        return 1 + escaped(string, '"');
    }
    let in_word = before.is_some_and(|c| c.is_alphanumeric() || c == '_');
    if let Some(raw) = rest.strip_prefix('r').filter(|_| !in_word || before == Some('b')) {
        let hashes = raw.len() - raw.trim_start_matches('#').len();
        if raw[hashes..].starts_with('"') {
            return until(&format!("\"{}", "#".repeat(hashes)), hashes + 2);
        }
    }
    character_length(rest)
}

/// `'{'` is a literal, `'a` in `&'a str` is not.
fn character_length(rest: &str) -> usize {
    let Some(inside) = rest.strip_prefix('\'') else { return 0 };
    let mut chars = inside.char_indices();
    match (chars.next(), chars.next()) {
        (Some((_, '\\')), _) => 1 + escaped(inside, '\''),
        (Some(_), Some((end, '\''))) => end + 2,
        _ => 0,
    }
}

/// Bytes up to and with the closing quote, over escapes.
fn escaped(rest: &str, quote: char) -> usize {
    let mut chars = rest.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => drop(chars.next()),
            c if c == quote => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

/// Blanks out each item under `#[cfg(test)]`.
fn without_tests(code: &str) -> String {
    let Some(at) = code.find("#[cfg(test)]") else { return code.to_owned() };
    let item = &code[at..];
    let end = item_length(item);
    let blank: String = item[..end].chars().map(|c| if c == '\n' { '\n' } else { ' ' }).collect();
    iter::once(&code[..at]).chain([blank.as_str(), &without_tests(&item[end..])]).collect()
}

fn item_length(item: &str) -> usize {
    let mut depth = 0;
    for (at, c) in item.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 1 => return at + 1,
            '}' => depth -= 1,
            ';' if depth == 0 => return at + 1,
            _ => {}
        }
    }
    item.len()
}

#[test]
fn the_program_is_told_from_its_comments_strings_and_tests() {
    let text = r##"fn f<'a>() { g('{', '\'', "a \" unsafe", r#"b " unsafe"#, b'"'); } // unsafe
/* unsafe
*/ fn kept() {}
#[cfg(test)]
mod tests { fn unsafe_too() { } }
fn last() {}"##;
    let code = Source::new("a.rs", text).code;
    assert!(!code.contains("unsafe"), "{code}");
    assert!(code.contains("fn kept()") && code.contains("fn last()") && code.contains("<'a>"), "{code}");
    assert_eq!(code.lines().count(), text.lines().count());
}
