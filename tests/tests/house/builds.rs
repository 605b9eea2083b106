//! A library is compiled once for programs and tests: features that only tests switch on would compile it twice.

use std::collections::BTreeSet;
use std::process::Command;

use crate::source::root;

/// A line for each library that the dependencies of these kinds bring, with its features.
pub(crate) fn features(kinds: &str) -> String {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let words = ["tree", "--workspace", "--offline", "--prefix", "none", "--format", "{p} [{f}]", "-e", kinds];
    let out = Command::new(cargo).args(words).current_dir(root()).output().expect("cargo can be run");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).expect("cargo writes UTF-8")
}

pub(crate) fn rebuilt(programs: &str, tests: &str) -> Vec<String> {
    let tests: BTreeSet<&str> = tests.lines().map(line).collect();
    let lost = programs.lines().map(line).filter(|library| !tests.contains(library)).collect::<BTreeSet<_>>();
    lost.iter()
        .map(|library| format!("{library} has other features in tests: name them in tests/Cargo.toml too"))
        .collect()
}

/// Without the mark of what stands above already.
fn line(line: &str) -> &str {
    line.trim_end_matches(" (*)")
}
