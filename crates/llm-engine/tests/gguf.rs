//! What the header check says of good, cut, bent and hostile files; it must answer all of them, soon, in little memory.

mod sample;

use std::io::{Cursor, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use llm_engine::gguf::{self, Header, Pooling, Problem, Setting};
use peak_alloc::PeakAlloc;

use sample::{Sample, tokens};

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// `make test-long` sets it to multiply the number of random cases.
fn factor() -> u64 {
    std::env::var("LLM_TEST_FACTOR").ok().and_then(|factor| factor.parse().ok()).unwrap_or(1)
}

fn read(bytes: &[u8]) -> Result<Header, Problem> {
    Header::read(Cursor::new(bytes), bytes.len() as u64)
}

fn said(sample: Sample<'_>) -> String {
    read(&sample.bytes()).unwrap_err().to_string()
}

fn position(bytes: &[u8], text: &str) -> usize {
    bytes.windows(text.len()).position(|window| window == text.as_bytes()).unwrap()
}

#[test]
fn a_sound_file_is_described() {
    let header = read(&Sample::new(&tokens()).bytes()).unwrap();
    assert_eq!((header.architecture.as_str(), header.name.as_deref()), ("bert", Some("Sample")));
    assert_eq!((header.context_length, header.embedding_length, header.block_count), (512, 8, 2));
    assert_eq!((header.vocabulary, header.head_count, header.head_count_kv), (4, Some(4), None));
    assert_eq!((header.quantization.as_str(), header.parameters), ("F16", 37));
    assert_eq!((header.pooling, header.has_chat_template), (Some(Pooling::Mean), true));
}

#[test]
fn a_chat_model_that_llama_cpp_tools_made_is_described() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/models/tiny-chat-f16.gguf");
    let header = gguf::check(path.as_ref()).unwrap();
    assert_eq!((header.architecture.as_str(), header.quantization.as_str()), ("qwen2", "F16"));
    assert_eq!((header.context_length, header.block_count, header.vocabulary), (4096, 3, 2048));
    assert_eq!((header.head_count, header.head_count_kv, header.pooling), (Some(4), Some(2), None));
    assert!(header.has_chat_template && header.size == std::fs::metadata(path).unwrap().len());
}

#[test]
fn a_file_without_a_file_type_is_named_after_most_of_its_weights() {
    assert_eq!(read(&Sample::new(&tokens()).without("general.file_type").bytes()).unwrap().quantization, "F16");
}

#[test]
fn a_file_cut_anywhere_is_refused() {
    let whole = Sample::new(&tokens()).bytes();
    // The padding behind the last tensor is nobody's: 37 numbers of 2 bytes, the first 32 of them aligned.
    let needed = whole.len() - 22;
    for length in 0..needed {
        let problem = read(&whole[..length]).unwrap_err();
        assert!(
            matches!(problem, Problem::Truncated { ends, needs } if ends == length as u64 && needs > ends),
            "{problem}"
        );
    }
    assert!(read(&whole[..needed]).is_ok());
}

#[test]
fn a_cut_file_says_how_long_it_should_be() {
    let whole = Sample::new(&tokens()).bytes();
    let error = read(&whole[..whole.len() - 40]).unwrap_err().to_string();
    let (ends, needs) = (whole.len() - 40, whole.len() - 22);
    assert_eq!(error, format!("ends at byte {ends} but needs {needs}: it is incomplete, download it again"));
}

#[test]
fn every_number_that_would_abort_llama_cpp_is_named() {
    let tokens = tokens();
    let with = |key, number| said(Sample::new(&tokens).with(key, Setting::U32(number)));
    for count in [0, 513, u32::MAX] {
        assert!(with("bert.block_count", count).contains(&format!("bert.block_count is {count}, outside 1..=512")));
    }
    for length in [0, 1 << 31] {
        assert!(with("bert.context_length", length).contains("bert.context_length"));
    }
    assert!(with("tokenizer.ggml.eos_token_id", 4).contains("eos_token_id is 4, and there are 4 tokens"));
    assert!(with("tokenizer.ggml.bos_token_id", 1 << 30).contains("bos_token_id"));
    for alignment in [0, 3, 48] {
        assert!(with("general.alignment", alignment).contains("power of two"));
    }
    assert!(said(Sample::new(&tokens).with("general.alignment", Setting::Text("32"))).contains("power of two"));
}

#[test]
fn everything_else_that_llama_cpp_takes_for_granted_is_checked() {
    let tokens = tokens();
    let refused = |settings: &[(&'static str, Setting<'static>)]| {
        let sample = settings.iter().fold(Sample::new(&tokens), |sample, (key, value)| sample.with(key, value.clone()));
        read(&sample.bytes()).err().map(|problem| problem.to_string()).unwrap_or_default()
    };
    let says = |settings: &[_], what: &str| assert!(refused(settings).contains(what), "{what}: {}", refused(settings));
    use Setting::{Bool, F32, Text, U32};
    says(&[("bert.nextn_predict_layers", U32(3))], "does not fit its 2 layers");
    says(&[("bert.attention.head_count_kv", U32(2 + (16 << 24)))], "head_count_kv");
    says(&[("bert.attention.head_count", U32(3))], "3 heads do not divide its width of 8");
    assert_eq!(refused(&[("bert.attention.head_count", U32(3)), ("bert.attention.key_length", U32(4))]), "");
    says(&[("bert.expert_used_count", U32(2))], "experts");
    says(&[("bert.expert_count", U32(4))], "experts");
    says(&[("bert.expert_count", U32(1_025)), ("bert.expert_used_count", U32(2))], "experts");
    let experts = [("bert.expert_count", U32(4)), ("bert.expert_used_count", U32(2))];
    assert_eq!(refused(&experts), "");
    says(&[&experts[..], &[("bert.expert_group_count", U32(3))]].concat(), "3 groups");
    says(&[("bert.rope.scaling.type", Text("liner"))], "\"liner\"");
    says(&[("bert.pooling_type", U32(9))], "pooling_type is 9");
    for epsilon in [-1e-6, f32::NAN, f32::INFINITY] {
        says(&[("bert.attention.layer_norm_epsilon", F32(epsilon))], "not between 0 and 1");
    }
    let llama = ("tokenizer.ggml.model", Text("gpt2"));
    says(&[llama.clone(), ("tokenizer.ggml.add_bos_token", Bool(true))], "adds a token");
    assert_eq!(refused(&[llama, ("tokenizer.ggml.add_eos_token", Bool(true))]), "");
    says(&[("tokenizer.ggml.model", Text("bert"))], "beginning or the end");
}

#[test]
fn two_equal_tokens_are_noticed_and_empty_ones_are_not_equal() {
    let tokens = |texts: [&str; 4]| texts.map(str::to_owned);
    assert!(said(Sample::new(&tokens(["a", "b", "c", "b"]))).contains("two tokens of its vocabulary are the same"));
    assert!(read(&Sample::new(&tokens(["a", "", "b", ""])).bytes()).is_ok());
}

#[test]
fn files_that_are_no_model_say_what_they_are() {
    let tokens = tokens();
    let sample = || Sample::new(&tokens);
    assert!(said(sample().with("split.count", Setting::U32(3))).contains("split model"));
    assert!(said(sample().with("general.type", Setting::Text("adapter"))).contains("LoRA"));
    assert!(said(sample().with("general.architecture", Setting::Text("clip"))).contains("mmproj"));
    assert!(said(sample().with("general.architecture", Setting::Text("gpt9"))).contains("\"gpt9\""));
    assert!(said(sample().without("general.architecture")).contains("general.architecture"));
    assert!(said(sample().without("tokenizer.ggml.tokens")).contains("no vocabulary"));
    assert!(said(sample().without("bert.context_length")).contains("does not say its bert.context_length"));
}

#[test]
fn other_files_are_recognised() {
    let said = |bytes: &[u8]| read(bytes).unwrap_err().to_string();
    assert!(said(b"<!DOCTYPE html>").contains("a web page"));
    assert!(said(b"version https://git-lfs.example/spec/v1").contains("Git LFS"));
    assert!(said(b"PK\x03\x04....").contains("a zip archive"));
    assert!(said(b"\x00\x01ab").contains("\\x00\\x01ab"));
    assert!(said(b"GGUF\x01\0\0\0").contains("version 1"));
    assert!(said(b"GGUF\0\0\0\x03").contains("version 50331648"));
}

#[test]
fn keys_and_tensors_stand_there_once() {
    let tokens = tokens();
    let mut sample = Sample::new(&tokens);
    sample.settings.push(("general.name", Setting::Bool(true)));
    assert!(said(sample).contains("general.name stands there twice"));
    let mut sample = Sample::new(&tokens);
    sample.tensors.push(("token_embd.weight", vec![8]));
    assert!(said(sample).contains("token_embd.weight stands there twice"));
}

#[test]
fn absurd_counts_and_lengths_are_refused_wherever_they_stand() {
    let whole = Sample::new(&tokens()).bytes();
    let places = [8, 16, 24, position(&whole, "bert.context") - 8, position(&whole, "[PAD]") - 16];
    let shape = position(&whole, "token_embd.weight") + 17 + 4;
    for place in places.into_iter().chain([shape, shape + 8, shape + 20]) {
        for number in [u64::MAX, u64::MAX - 7, 1 << 63, i64::MAX as u64, 1 << 62, 1 << 48, 1 << 40, 1 << 32, 1 << 25] {
            let mut bent = whole.clone();
            bent[place..place + 8].copy_from_slice(&number.to_le_bytes());
            assert!(read(&bent).is_err(), "{number} at byte {place}");
        }
    }
}

#[test]
fn random_damage_to_a_header_is_answered_soon() {
    let (whole, mut random) = (Sample::new(&tokens()).bytes(), fastrand::Rng::with_seed(1));
    let mut refused = 0;
    for _ in 0..20_000 * factor() {
        let bent = bend(&whole, &mut random);
        let began = Instant::now();
        refused += u64::from(read(&bent).is_err());
        assert!(began.elapsed() < Duration::from_secs(2), "{}", bent.escape_ascii());
    }
    assert!(refused > 10_000 * factor(), "only {refused} were noticed");
    assert!(MEMORY.peak_usage_as_mb() < 64.0, "{} MB", MEMORY.peak_usage_as_mb());
}

/// One to four flipped bits, overwritten numbers or lost bytes.
fn bend(whole: &[u8], random: &mut fastrand::Rng) -> Vec<u8> {
    let mut bent = whole.to_vec();
    for _ in 0..random.usize(1..=4) {
        let place = random.usize(..bent.len() - 8);
        match random.u8(..4) {
            0 => bent[place] ^= 1 << random.u8(..8),
            1 => bent[place] = random.u8(..),
            2 => bent[place..place + 8].copy_from_slice(&(random.u64(..) >> random.u8(..64)).to_le_bytes()),
            _ => drop(bent.drain(place..place + random.usize(..8))),
        }
    }
    bent
}

#[test]
fn noise_is_answered() {
    let mut random = fastrand::Rng::with_seed(2);
    for _ in 0..2_000 * factor() {
        let mut bytes = b"GGUF\x03\0\0\0".to_vec();
        bytes.extend((0..random.usize(..512)).map(|_| random.u8(..) & random.u8(..) & random.u8(..)));
        assert!(read(&bytes).is_err());
    }
}

#[test]
fn a_file_of_a_terabyte_costs_neither_time_nor_memory() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("huge.gguf");
    sparse(&path, 1 << 40);
    let began = Instant::now();
    let error = gguf::check(&path).unwrap_err();
    // It claims sixteen million empty words and then ends in zeros, which are no key.
    assert!(error.to_string().contains("a key of 0 bytes"), "{error}");
    assert!(began.elapsed() < Duration::from_secs(20));
    assert!(MEMORY.peak_usage_as_mb() < 64.0);
}

fn sparse(path: &Path, length: u64) {
    let mut file = std::fs::File::create(path).unwrap();
    let mut head = b"GGUF\x03\0\0\0".to_vec();
    head.extend([[1u64, 2].map(u64::to_le_bytes).concat(), 1u64.to_le_bytes().to_vec(), b"k".to_vec()].concat());
    head.extend([9u32.to_le_bytes(), 8u32.to_le_bytes()].concat());
    head.extend((1u64 << 24).to_le_bytes());
    file.write_all(&head).unwrap();
    file.set_len(length).unwrap();
    file.seek(SeekFrom::Start(0)).unwrap();
}

#[test]
fn the_error_names_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let refused = |path: PathBuf| gguf::check(&path).unwrap_err();
    let missing = refused(folder.path().join("no.gguf"));
    assert_eq!(missing.kind(), llm_core::Kind::NotFound);
    assert!(missing.to_string().contains("no.gguf cannot be read"), "{missing}");
    assert!(refused(folder.path().to_owned()).to_string().contains("is a folder"));
    let short = folder.path().join("short.gguf");
    std::fs::write(&short, &Sample::new(&tokens()).bytes()[..100]).unwrap();
    assert_eq!(refused(short.clone()).kind(), llm_core::Kind::Invalid);
    assert!(refused(short).to_string().contains("short.gguf ends at byte 100 but needs"));
}
