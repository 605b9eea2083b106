//! Imports go down only: between the crates, and between the floors of llm-core.

use crate::source::Source;

/// Each crate of ours, and which others it may build on. What stands behind `optional` may only be an optional dependency.
const CRATES: &[(&str, &[&str], &[&str])] = &[
    ("llm-core", &[], &[]),
    ("llm-engine", &["llm-core"], &[]),
    // Its thin main.rs offers the engine, the library does not know it: see `server_library`.
    ("llm-server", &["llm-core"], &["llm-engine"]),
    ("llm-cli", &["llm-core", "llm-engine", "llm-server"], &["llm-core", "llm-engine", "llm-server"]),
];

/// The floors of llm-core from the ground up. A file that fits none wants a place here first.
const FLOORS: &[&[&str]] = &[
    &["error", "secret"],
    // One floor, for each is nothing without the other: a call keeps its dialect's bytes, a dialect makes a call's nouns.
    &["call", "dialect"],
    &["provider"],
    &["policy"],
    &["route"],
    &["gateway"],
    &["llm"],
    &["interop"],
    &["testkit"],
];

pub(crate) fn crates(manifests: &[(&str, &str)]) -> Vec<String> {
    manifests.iter().flat_map(|(name, text)| manifest(name, text)).collect()
}

fn manifest(name: &str, text: &str) -> Vec<String> {
    let Some((_, firm, optional)) = CRATES.iter().find(|row| row.0 == name) else {
        return vec![format!("crates/{name}: not in CRATES of floors.rs: say what it may build on")];
    };
    let allowed = |other: &str, line: &str| {
        firm.contains(&other) || optional.contains(&other) && line.contains("optional = true")
    };
    let named = dependencies(text).filter(|(other, line)| !allowed(other, line));
    named.map(|(other, _)| format!("crates/{name}/Cargo.toml: must not build on {other}")).collect()
}

/// Our crates among the dependencies, with their line; tests may use what they like.
fn dependencies(text: &str) -> impl Iterator<Item = (&str, &str)> {
    let mut section = "";
    text.lines().filter_map(move |line| {
        if line.starts_with('[') {
            section = line;
        }
        let inside = section.contains("dependencies") && !section.contains("dev-dependencies");
        let start = line.strip_prefix("[dependencies.").unwrap_or(line);
        let name = &start[..start.find(|c: char| !c.is_alphanumeric() && c != '-').unwrap_or(start.len())];
        (inside && name.starts_with("llm-")).then_some((name, line)).filter(|(name, _)| !is_foreign(name))
    })
}

fn is_foreign(name: &str) -> bool {
    !CRATES.iter().any(|row| row.0 == name)
}

/// llm-server's library knows no engine; only its main.rs may offer one.
pub(crate) fn server_library(files: &[Source]) -> Vec<String> {
    let library =
        files.iter().filter(|f| f.path.starts_with("crates/llm-server/src/") && !f.path.ends_with("/main.rs"));
    library
        .flat_map(|file| file.lines(|line| line.contains("llm_engine")))
        .map(|place| format!("{place}: llm_engine in the library"))
        .collect()
}

pub(crate) fn core(files: &[Source]) -> Vec<String> {
    let at_root = files
        .iter()
        .find(|f| f.path == "crates/llm-core/src/lib.rs")
        .map(|lib| reexports(&lib.code))
        .unwrap_or_default();
    let inside = files.iter().filter_map(|file| Some((file, file.path.strip_prefix("crates/llm-core/src/")?)));
    inside.filter(|(_, path)| *path != "lib.rs").flat_map(|(file, path)| upwards(file, path, &at_root)).collect()
}

fn upwards(file: &Source, path: &str, at_root: &[(String, String)]) -> Vec<String> {
    let Some(own) = height(path.split(['/', '.']).next().unwrap_or_default()) else {
        return vec![format!("{}: on no floor; name it in FLOORS of floors.rs, above all that it uses", file.path)];
    };
    let floor =
        |name: &str| at_root.iter().find(|(item, _)| item == name).map_or(name.to_owned(), |(_, floor)| floor.clone());
    let used = crate_names(&file.code).into_iter().map(|name| floor(&name));
    used.filter(|name| height(name) > Some(own)).map(|name| format!("{}: looks up to {name}", file.path)).collect()
}

fn height(floor: &str) -> Option<usize> {
    FLOORS.iter().position(|names| names.contains(&floor))
}

/// What follows `crate::`, in braces too: the first name of each path.
fn crate_names(code: &str) -> Vec<String> {
    code.split("crate::").skip(1).flat_map(first_names).collect()
}

fn first_names(path: &str) -> Vec<String> {
    let Some(group) = path.strip_prefix('{') else { return vec![word(path)] };
    let (mut depth, mut names, mut start) = (0, vec![word(group)], false);
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => start = true,
            c if start && !c.is_whitespace() => {
                names.push(word(&group[at..]));
                start = false;
            }
            _ => {}
        }
    }
    names
}

fn word(text: &str) -> String {
    text.trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

/// `pub use gateway::{Config, Gateway};` puts both at the root of the crate: (item, floor).
fn reexports(lib: &str) -> Vec<(String, String)> {
    let uses = lib.split("pub use ").skip(1).filter_map(|rest| rest.split_once(';')).map(|(path, _)| path);
    uses.flat_map(|path| {
        let floor = word(path.trim_start_matches("crate::"));
        let items = path.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|item| !item.is_empty());
        items.skip(1).map(move |item| (item.to_owned(), floor.clone())).collect::<Vec<_>>()
    })
    .collect()
}
