//! A new provider, policy, dialect or command is a file and its line: no file may be missing from its list.

use crate::source::Source;

/// The list, the folder it speaks for, and what marks a file there as an entry and no mere helper.
const LISTS: &[(&str, &str, &str)] = &[
    ("PROVIDERS", "crates/llm-core/src/provider", " Provider for "),
    ("POLICIES", "crates/llm-core/src/policy", " Provider for "),
    ("DIALECTS", "crates/llm-core/src/dialect", " Dialect for "),
    ("COMMANDS", "crates/llm-cli/src/commands", "fn run"),
];

pub(crate) fn complete(files: &[Source]) -> Vec<String> {
    LISTS.iter().flat_map(|(list, folder, mark)| missing(files, list, folder, mark)).collect()
}

fn missing(files: &[Source], list: &str, folder: &str, mark: &str) -> Vec<String> {
    let lines = files.iter().find_map(|file| listed(file, list, folder));
    let entries = files.iter().filter(|file| file.code.contains(mark)).filter_map(|file| entry(file, folder));
    match lines {
        Some(lines) => {
            entries.filter(|name| !names(lines, name)).map(|name| format!("{folder}/{name}: not in {list}")).collect()
        }
        None => entries.map(|name| format!("{folder}/{name}: there is no {list} in {folder}/mod.rs")).collect(),
    }
}

/// The text of the list, from its name to its closing bracket.
fn listed<'a>(file: &'a Source, list: &str, folder: &str) -> Option<&'a str> {
    let code = (file.path == format!("{folder}/mod.rs")).then_some(&file.code)?;
    let (_, from) = code.split_once(&format!(" {list}:"))?;
    from.split_once(';').map(|(lines, _)| lines)
}

/// The name of the part that a file of the folder, or a folder in it, is.
fn entry<'a>(file: &'a Source, folder: &str) -> Option<&'a str> {
    let path = file.path.strip_prefix(folder)?.strip_prefix('/')?;
    Some(path.split(['/', '.']).next()?).filter(|name| *name != "mod")
}

fn names(lines: &str, part: &str) -> bool {
    lines.split(|c: char| !c.is_alphanumeric() && c != '_').any(|word| word == part)
}
