//! The house keeps itself tidy: imports go down only, lists are complete, and the rest of what no compiler checks.
//! Each rule is a function from files to complaints, tried on a bad sample first, so that it is known to bite.

mod builds;
mod floors;
mod lists;
mod source;
mod words;

use source::{Source, rust_sources, tracked_files};

/// Fails with every complaint at once: one run shows all there is to mend.
#[track_caller]
fn assert_tidy(complaints: Vec<String>) {
    assert!(complaints.is_empty(), "\n  {}\n", complaints.join("\n  "));
}

#[track_caller]
fn assert_bites(complaints: &[String], about: &str) {
    assert!(complaints.iter().any(|c| c.contains(about)), "no complaint about {about:?} in {complaints:?}");
}

#[test]
fn crates_depend_downwards_only() {
    assert_bites(&floors::crates(&[("llm-core", "[dependencies]\nllm-server.workspace = true")]), "llm-server");
    assert_bites(&floors::crates(&[("llm-engine", "[dependencies]\nllm-server = { path = \"..\" }")]), "llm-server");
    assert_bites(&floors::crates(&[("llm-server", "[dependencies.llm-engine]\nworkspace = true")]), "llm-engine");
    assert_bites(&floors::crates(&[("llm-attic", "[dependencies]")]), "llm-attic");
    assert!(
        floors::crates(&[("llm-server", "[dependencies]\nllm-engine = { workspace = true, optional = true }")])
            .is_empty()
    );
    let manifests = source::manifests();
    assert_tidy(floors::crates(
        &manifests.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect::<Vec<_>>(),
    ));
}

#[test]
fn only_the_servers_main_knows_the_engine() {
    let lib = Source::new("crates/llm-server/src/api.rs", "//! x\nuse llm_engine::Engine;");
    assert_bites(&floors::server_library(&[lib]), "llm_engine");
    assert_tidy(floors::server_library(&rust_sources()));
}

#[test]
fn inside_the_core_imports_go_down_only() {
    let lib = Source::new("crates/llm-core/src/lib.rs", "pub use gateway::{Config, Gateway};\npub use call::Call;");
    for upwards in
        ["use crate::route::Router;", "use crate::{call::Call, gateway::Gateway};", "fn f() -> crate::Gateway {}"]
    {
        let low = Source::new("crates/llm-core/src/policy/queue.rs", upwards);
        assert_bites(&floors::core(&[lib.clone(), low]), "policy/queue.rs");
    }
    let nowhere = Source::new("crates/llm-core/src/attic.rs", "");
    assert_bites(&floors::core(&[nowhere]), "attic.rs");
    let fine = "use crate::{call::Call, error::Error};\n// crate::gateway\n#[cfg(test)]\nmod tests { use crate::gateway::Gateway; }";
    assert!(floors::core(&[lib, Source::new("crates/llm-core/src/policy/queue.rs", fine)]).is_empty());
    assert_tidy(floors::core(&rust_sources()));
}

#[test]
fn every_file_begins_by_saying_what_it_is_for() {
    assert_bites(&words::first_lines(&[Source::new("a.rs", "use std::fmt;")]), "a.rs");
    assert_bites(&words::first_lines(&[Source::new("a.rs", "//!\nuse std::fmt;")]), "a.rs");
    assert_tidy(words::first_lines(&rust_sources()));
}

#[test]
fn lists_name_every_part() {
    let list = "pub const POLICIES: &[Policy] = &[\n queue::QUEUE,\n];";
    let list = Source::new("crates/llm-core/src/policy/mod.rs", list);
    let part = |path| Source::new(path, "pub const QUEUE: Policy = Policy {};");
    let second = Source::new("crates/llm-core/src/policy/queue.rs", "pub const LINE: Policy = Policy {};");
    assert_bites(&lists::complete(&[list.clone(), part("crates/llm-core/src/policy/lost.rs")]), "lost");
    assert_bites(&lists::complete(&[list.clone(), second]), "LINE");
    assert_bites(&lists::complete(&[part("crates/llm-core/src/policy/lost.rs")]), "POLICIES");
    assert!(lists::complete(&[list, part("crates/llm-core/src/policy/queue.rs")]).is_empty());
    assert_tidy(lists::complete(&rust_sources()));
}

#[test]
fn only_the_engine_is_unsafe() {
    assert_bites(&words::unsafety(&[Source::new("crates/llm-core/src/a.rs", "fn f() { unsafe { g() } }")]), "a.rs:1");
    assert!(
        words::unsafety(&[Source::new("crates/llm-core/src/a.rs", "// unsafe\nconst A: &str = \"unsafe\";")])
            .is_empty()
    );
    assert_tidy(words::unsafety(&rust_sources()));
}

#[test]
fn the_core_and_the_server_do_not_unwrap() {
    let sample = "fn f() {\n g().unwrap()\n}\n#[cfg(test)]\nmod tests { fn f() { g().unwrap() } }";
    assert_bites(&words::unwraps(&[Source::new("crates/llm-server/src/a.rs", sample)]), "a.rs:2");
    assert_eq!(words::unwraps(&[Source::new("crates/llm-server/src/a.rs", sample)]).len(), 1);
    assert_tidy(words::unwraps(&rust_sources()));
}

#[test]
fn files_are_short_enough_to_read() {
    assert_bites(&words::lengths(&[Source::new("crates/a.rs", &"let x = 1;\n".repeat(501))]), "a.rs");
    assert!(words::lengths(&[Source::new("tests/a.rs", &"let x = 1;\n".repeat(501))]).is_empty());
    assert_tidy(words::lengths(&rust_sources()));
}

#[test]
fn no_file_names_a_registry_or_somebodys_folders() {
    for banned in words::banned() {
        assert_bites(&words::places(&[Source::new("a.md", &format!("see {banned}x"))]), "a.md:1");
    }
    assert_tidy(words::places(&tracked_files()));
}

#[test]
fn programs_and_tests_are_one_build() {
    let programs = "tokio v1.0.0 [rt]\nllm-core v0.1.0 []";
    let tests = "tokio v1.0.0 [rt,test-util]\nllm-core v0.1.0 []\nproptest v1.0.0 [std]";
    assert_bites(&builds::rebuilt(programs, tests), "tokio");
    assert_eq!(builds::rebuilt(programs, tests).len(), 1);
    assert_tidy(builds::rebuilt(&builds::features("normal,build"), &builds::features("normal,build,dev")));
}
