//! A library is compiled once for programs and tests: features that only tests switch on would compile it twice. And whoever
//! takes llm-core alone takes few others with it.

use std::collections::BTreeSet;
use std::process::Command;

use crate::source::root;
use crate::{assert_bites, assert_tidy};

/// What llm-core may bring into a program, itself counted; most of it is behind HTTP, JSON and the runtime.
const LIBRARIES: usize = 110;

/// A line for each library that the dependencies of these kinds bring, with its features.
pub(crate) fn features(kinds: &str) -> String {
    tree(&["--workspace", "--format", "{p} [{f}]", "-e", kinds])
}

fn tree(words: &[&str]) -> String {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let mut tree = Command::new(cargo);
    tree.args(["tree", "--offline", "--prefix", "none"]).args(words).current_dir(root());
    let out = tree.output().expect("cargo can be run");
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

fn too_many(tree: &str, most: usize) -> Vec<String> {
    let libraries: BTreeSet<&str> = tree.lines().map(line).filter(|library| !library.is_empty()).collect();
    let complaint = || format!("llm-core brings {} libraries, and {most} are enough: {libraries:?}", libraries.len());
    (libraries.len() > most).then(complaint).into_iter().collect()
}

#[test]
fn a_program_that_takes_the_core_takes_few_libraries_with_it() {
    let sample = "llm-core v0.1.0\nbytes v1.0.0\nhttp v1.0.0\nbytes v1.0.0 (*)\n";
    assert_bites(&too_many(sample, 2), "3 libraries");
    assert!(too_many(sample, 3).is_empty());
    assert_tidy(too_many(&tree(&["-p", "llm-core", "-e", "normal,build"]), LIBRARIES));
}
