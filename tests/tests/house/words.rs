//! Rules about single files: what they begin with, how long they are, and which words they must not hold.

use crate::source::Source;

const LONGEST: usize = 500;

pub(crate) fn first_lines(files: &[Source]) -> Vec<String> {
    let dumb = |file: &&Source| {
        file.text.lines().next().and_then(|l| l.strip_prefix("//! ")).is_none_or(|words| words.trim().is_empty())
    };
    files
        .iter()
        .filter(dumb)
        .map(|file| format!("{}: the first line must be `//! what this is for`", file.path))
        .collect()
}

pub(crate) fn lengths(files: &[Source]) -> Vec<String> {
    let program = |file: &Source| file.code.lines().filter(|line| !line.trim().is_empty()).count();
    let long = files.iter().filter(|file| !file.path.starts_with("tests/") && program(file) > LONGEST);
    long.map(|file| format!("{}: {} lines, more than {LONGEST}", file.path, program(file))).collect()
}

pub(crate) fn unsafety(files: &[Source]) -> Vec<String> {
    let safe = files.iter().filter(|file| !file.path.starts_with("crates/llm-engine/"));
    safe.flat_map(|file| file.lines(|line| has_word(line, "unsafe")))
        .map(|place| format!("{place}: unsafe belongs to llm-engine alone"))
        .collect()
}

pub(crate) fn unwraps(files: &[Source]) -> Vec<String> {
    let strict =
        files.iter().filter(|f| ["crates/llm-core/", "crates/llm-server/"].iter().any(|c| f.path.starts_with(c)));
    strict
        .flat_map(|file| file.lines(|line| line.contains(".unwrap()")))
        .map(|place| format!("{place}: unwrap lives in tests"))
        .collect()
}

/// Put together here, so that this file does not hold what it forbids.
pub(crate) fn banned() -> Vec<String> {
    let hosts = [
        ["py", "pi.org"],
        ["python", "hosted.org"],
        ["crates", ".io"],
        ["npmjs", ".org"],
        ["npmjs", ".com"],
        ["deb.", "debian.org"],
    ];
    let folders = [["/work", "/main"], ["/work", "/shared"], ["/work", "/wt"], ["/ro", "ot/"]];
    hosts.iter().chain(&folders).map(|parts| parts.concat()).collect()
}

/// Packages come from whatever index the user's tools are set to, and nothing lives in one person's folders.
pub(crate) fn places(files: &[Source]) -> Vec<String> {
    let banned = banned();
    // Cargo writes where a crate came from into its lock file: its own business.
    let ours = files.iter().filter(|file| !file.path.ends_with("Cargo.lock"));
    ours.flat_map(|file| {
        let bad = file.text.lines().enumerate().filter(|(_, line)| banned.iter().any(|word| line.contains(word)));
        bad.map(|(n, _)| format!("{}:{}: names a registry's host or somebody's folder", file.path, n + 1))
            .collect::<Vec<_>>()
    })
    .collect()
}

fn has_word(line: &str, word: &str) -> bool {
    line.split(|c: char| !c.is_alphanumeric() && c != '_').any(|w| w == word)
}
