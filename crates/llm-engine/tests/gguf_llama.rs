//! What passes the header check must not end the process: bent models are loaded and asked by llama.cpp itself.
use std::num::NonZeroU32;
use std::path::Path;
use std::process::Command;

use llama_cpp_2::context::params::LlamaContextParams;
use llama_cpp_2::llama_backend::LlamaBackend;
use llama_cpp_2::llama_batch::LlamaBatch;
use llama_cpp_2::model::LlamaModel;
use llama_cpp_2::model::params::LlamaModelParams;
use llama_cpp_2::token::LlamaToken;
use llm_engine::gguf;

const MODEL: &[u8] = include_bytes!("../../../tests/models/tiny-chat-f16.gguf");
const CASES: u64 = 400;

#[test]
fn a_bent_model_that_passes_the_check_does_not_end_the_process() {
    match std::env::var("LLM_TEST_BENDS") {
        Ok(count) => try_bends(count.parse().unwrap()),
        Err(_) => watch_another_process(),
    }
}

/// An abort cannot be caught, so another process runs the cases and tells each before it begins.
fn watch_another_process() {
    let factor: u64 = std::env::var("LLM_TEST_FACTOR").ok().and_then(|factor| factor.parse().ok()).unwrap_or(1);
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["a_bent_model_that_passes_the_check_does_not_end_the_process", "--exact", "--nocapture"])
        .env("LLM_TEST_BENDS", (CASES * factor).to_string())
        .env("GGML_NO_BACKTRACE", "1")
        .output()
        .unwrap();
    let (said, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let last: Vec<_> = said.lines().rev().take(3).collect();
    let complaint: Vec<_> = errors.lines().rev().take(5).collect();
    assert!(output.status.success(), "{}: {last:?} {complaint:?}", output.status);
    let summary = said.lines().find(|line| line.contains(" passed the check")).unwrap();
    println!("{summary}");
}

fn try_bends(count: u64) {
    let mut backend = LlamaBackend::init().unwrap();
    backend.void_logs();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bent.gguf");
    let (mut passed, mut loaded) = (0, 0);
    for seed in 0..count {
        let (model, bend) = bent(seed);
        std::fs::write(&path, model).unwrap();
        if gguf::check(&path).is_ok() {
            println!("seed {seed}: {bend}");
            passed += 1;
            loaded += u64::from(ask(&backend, &path));
        }
    }
    println!("of {count} bent models {passed} passed the check and {loaded} loaded");
    assert!(passed > count / 50 && loaded > count / 100, "the bends are too rough to try anything");
}

/// The model with one number of its header changed, mostly where the numbers stand and not in the vocabulary.
fn bent(seed: u64) -> (Vec<u8>, String) {
    let mut random = fastrand::Rng::with_seed(seed);
    let (words, tensors) = (position("tokenizer.ggml.tokens"), position("token_embd.weight"));
    let place = match random.u8(..10) {
        0..5 => random.usize(24..words),
        5..8 => random.usize(tensors..tensors + 2_000),
        _ => random.usize(24..tensors),
    };
    let mut model = MODEL.to_vec();
    let byte = if random.bool() { model[place] ^ (1 << random.u8(..8)) } else { random.u8(..) };
    let bend = format!("byte {place} from {} to {byte}", model[place]);
    model[place] = byte;
    (model, bend)
}

fn position(text: &str) -> usize {
    MODEL.windows(text.len()).position(|window| window == text.as_bytes()).unwrap()
}

/// Loads the model and has it read one token; whether it loaded.
fn ask(backend: &LlamaBackend, path: &Path) -> bool {
    let Ok(model) = LlamaModel::load_from_file(backend, path, &LlamaModelParams::default()) else { return false };
    let params =
        LlamaContextParams::default().with_n_ctx(NonZeroU32::new(64)).with_n_threads(1).with_n_threads_batch(1);
    if let Ok(mut context) = model.new_context(backend, params) {
        let mut batch = LlamaBatch::new(8, 1);
        batch.add(LlamaToken(1), 0, &[0], true).unwrap();
        let _ = context.decode(&mut batch); // An error is an answer.
    }
    true
}
