//! A new provider, policy, dialect or command is a file and its line: no file may be missing from its list.

use std::collections::BTreeSet;

use crate::source::Source;

/// A list, the folder it speaks for, the type of a line, and the files there that help the others and are no entries.
struct List {
    name: &'static str,
    folder: &'static str,
    line: &'static str,
    helpers: &'static [&'static str],
}

const LISTS: &[List] = &[
    // http is what the hosts' rows are made of.
    List { name: "PROVIDERS", folder: "crates/llm-core/src/provider", line: "Kind", helpers: &["http", "hybrid"] },
    // keep carries parts over a reload.
    List { name: "POLICIES", folder: "crates/llm-core/src/policy", line: "Policy", helpers: &["keep"] },
    // fields reads objects, framing and sse cut streams, for any dialect.
    List {
        name: "DIALECTS",
        folder: "crates/llm-core/src/dialect",
        line: "Dialect",
        helpers: &["fields", "framing", "sse"],
    },
    List { name: "COMMANDS", folder: "crates/llm-cli/src/commands", line: "Command", helpers: &[] },
];

pub(crate) fn complete(files: &[Source]) -> Vec<String> {
    LISTS.iter().flat_map(|list| missing(files, list)).collect()
}

fn missing(files: &[Source], list: &List) -> Vec<String> {
    let List { name, folder, .. } = list;
    let parts: BTreeSet<&str> = files.iter().flat_map(|file| parts(file, list)).collect();
    match files.iter().find_map(|file| listed(file, list)) {
        Some(lines) => {
            let lost = parts.iter().filter(|part| !names(lines, part));
            lost.map(|part| format!("{folder}: {part} is not in {name}")).collect()
        }
        None if parts.is_empty() => Vec::new(),
        None => vec![format!("{folder}/mod.rs: there is no {name}")],
    }
}

/// What must be in the list: the file, or the folder in the folder, and every line that it declares.
fn parts<'a>(file: &'a Source, list: &List) -> Vec<&'a str> {
    let Some(path) = file.path.strip_prefix(list.folder).and_then(|path| path.strip_prefix('/')) else {
        return Vec::new();
    };
    let stem = path.split(['/', '.']).next().filter(|stem| *stem != "mod" && !list.helpers.contains(stem));
    stem.into_iter().chain(declared(&file.code, list.line)).collect()
}

/// `pub const VLLM: Kind = ..` declares VLLM; what a macro declares, a test beside it must look after.
fn declared<'a>(code: &'a str, line: &str) -> impl Iterator<Item = &'a str> {
    let constants = code.split("const ").skip(1).filter_map(|rest| rest.split_once(':'));
    constants
        .filter(move |(_, kind)| kind.trim_start().split([' ', '=']).next() == Some(line))
        .map(|(name, _)| name)
        .filter(|name| !name.starts_with('$'))
}

/// The text of the list, from its name to its end.
fn listed<'a>(file: &'a Source, list: &List) -> Option<&'a str> {
    let code = (file.path == format!("{}/mod.rs", list.folder)).then_some(&file.code)?;
    let (_, from) = code.split_once(&format!(" {}:", list.name))?;
    from.split_once(';').map(|(lines, _)| lines)
}

fn names(lines: &str, part: &str) -> bool {
    lines.split(|c: char| !c.is_alphanumeric() && c != '_').any(|word| word == part)
}
