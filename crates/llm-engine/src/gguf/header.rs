//! What a GGUF header says of its model, and the rules that it must keep before llama.cpp may see the file.

use std::io::{Read, Seek};
use std::ops::RangeInclusive;

use super::Problem;
use super::architectures::ARCHITECTURES;
use super::format::file_type_name;
use super::limits::keeps_the_limits;
use super::metadata::{Metadata, TOKENS, Value};
use super::source::Source;
use super::tensors::{Tensors, padded};

// llama.cpp keeps its layers in arrays of 512 and aborts the process when there are none or more.
const BLOCKS: RangeInclusive<u32> = 1..=512;
// The longest published one, Llama 4 Scout's, is 10,485,760; 2^31 loads and then hangs.
const CONTEXT: RangeInclusive<u32> = 1..=1 << 24;
const VOCABULARY: RangeInclusive<u32> = 1..=1 << 24;
const WIDTH: RangeInclusive<u32> = 1..=1 << 20;
// How GGUF writes "this model has no such token".
const NO_TOKEN: i128 = u32::MAX as i128;

/// A checked GGUF file, as far as it describes itself.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Header {
    /// The version of the file format, 2 or 3.
    pub version: u32,
    /// How the model is built, by llama.cpp's name: `llama`, `qwen3`, `bert`.
    pub architecture: String,
    /// What its makers call it.
    pub name: Option<String>,
    /// The licence, as its makers give it.
    pub license: Option<String>,
    /// How many tokens it was trained to look back on.
    pub context_length: u32,
    /// The width of its vectors.
    pub embedding_length: u32,
    /// How many layers.
    pub block_count: u32,
    /// Attention heads; the most, where layers differ.
    pub head_count: Option<u32>,
    /// Heads of keys and values; the most, where layers differ.
    pub head_count_kv: Option<u32>,
    /// How many tokens there are; every token id is smaller.
    pub vocabulary: u32,
    /// How its weights are stored: `F16`, `Q4_K_M`.
    pub quantization: String,
    /// How many weights.
    pub parameters: u64,
    /// Whether it says how a conversation is written.
    pub has_chat_template: bool,
    /// How token vectors become one vector of a text; a model that has this is made for embeddings.
    pub pooling: Option<Pooling>,
    /// The file's length in bytes.
    pub size: u64,
}

/// How an embedding model makes one vector of many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Pooling {
    /// The mean of all.
    Mean,
    /// The first token's.
    First,
    /// The last token's.
    Last,
    /// No vector but a score: a reranker.
    Rank,
}

impl Header {
    /// Reads and checks a file of `size` bytes; never panics, and never takes more memory than a few megabytes.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn read<R: Read + Seek>(file: R, size: u64) -> Result<Header, Problem> {
        let mut source = Source::new(file, size);
        let version = read_version(&mut source)?;
        let tensors = Tensors::count(&mut source)?;
        let keys = Metadata::count(&mut source)?;
        let metadata = Metadata::read(&mut source, keys)?;
        usable(&metadata)?;
        let tensors = Tensors::read(&mut source, tensors)?;
        complete(&source, &metadata, &tensors)?;
        describe(version, &metadata, &tensors, size)
    }
}

fn read_version<R: Read + Seek>(source: &mut Source<R>) -> Result<u32, Problem> {
    let magic: [u8; 4] = source.bytes()?;
    if &magic != b"GGUF" {
        return Err(Problem::NotGguf(looks_like(magic)));
    }
    match source.u32()? {
        version @ 2..=3 => Ok(version),
        version => Err(Problem::Version(version)),
    }
}

/// What people hand over instead: a page that a browser saved, a pointer that `git clone` left.
fn looks_like(magic: [u8; 4]) -> String {
    match &magic {
        b"<!DO" | b"<!do" | b"<htm" | b"<HTM" => "a web page".to_owned(),
        b"vers" => "perhaps a Git LFS pointer to one".to_owned(),
        b"PK\x03\x04" => "a zip archive".to_owned(),
        _ => format!("begins with \"{}\"", magic.escape_ascii()),
    }
}

/// Files that are sound GGUF and yet no model for this engine.
fn usable(metadata: &Metadata) -> Result<(), Problem> {
    if metadata.whole("split.count").is_some_and(|count| count > 1) {
        return Problem::unusable("is one part of a split model: join the parts with `llama-gguf-split --merge` first");
    }
    if metadata.text("general.type") == Some("adapter") {
        return Problem::unusable("is a LoRA adapter, not a model: name the model it was made for");
    }
    match metadata.text("general.architecture") {
        None => Problem::damaged("it does not say its general.architecture"),
        Some("clip") => Problem::unusable("is an image projector (mmproj), not a model: name the model it belongs to"),
        Some(name) if !ARCHITECTURES.contains(&name) => Problem::unusable(format!(
            "has the architecture \"{}\", which this program's llama.cpp does not know: update, or take another model",
            name.escape_debug()
        )),
        Some(_) => Ok(()),
    }
}

/// All bytes that the header promises are there.
fn complete<R: Read + Seek>(source: &Source<R>, metadata: &Metadata, tensors: &Tensors) -> Result<(), Problem> {
    let alignment = alignment(metadata)?;
    let start = padded(source.at(), alignment).map_or_else(|| Problem::damaged("its header has no end"), Ok)?;
    let needs = tensors.end(start, alignment)?;
    if needs > source.end() {
        return Err(Problem::Truncated { ends: source.end(), needs });
    }
    Ok(())
}

fn alignment(metadata: &Metadata) -> Result<u64, Problem> {
    const KEY: &str = "general.alignment";
    match metadata.whole(KEY).map(u32::try_from) {
        None if !metadata.has(KEY) => Ok(32),
        Some(Ok(alignment)) if alignment.is_power_of_two() => Ok(alignment.into()),
        _ => Problem::damaged("its general.alignment is not a power of two"),
    }
}

fn describe(version: u32, metadata: &Metadata, tensors: &Tensors, size: u64) -> Result<Header, Problem> {
    let architecture = metadata.text("general.architecture").unwrap_or_default();
    let key = |name: &str| format!("{architecture}.{name}");
    let vocabulary = vocabulary(metadata, &key("vocab_size"))?;
    let block_count = within(metadata, &key("block_count"), BLOCKS)?;
    special_tokens_exist(metadata, vocabulary)?;
    keeps_the_limits(metadata, architecture, block_count, vocabulary)?;
    Ok(Header {
        version,
        name: metadata.text("general.name").map(str::to_owned),
        license: metadata.text("general.license").map(str::to_owned),
        context_length: within(metadata, &key("context_length"), CONTEXT)?,
        embedding_length: within(metadata, &key("embedding_length"), WIDTH)?,
        block_count,
        head_count: optional(metadata, &key("attention.head_count")),
        head_count_kv: optional(metadata, &key("attention.head_count_kv")),
        vocabulary,
        quantization: quantization(metadata, tensors),
        parameters: tensors.parameters(),
        has_chat_template: metadata.text("tokenizer.chat_template").is_some_and(|text| !text.is_empty()),
        pooling: metadata.whole(&key("pooling_type")).and_then(pooling),
        size,
        architecture: architecture.to_owned(),
    })
}

fn vocabulary(metadata: &Metadata, size_key: &str) -> Result<u32, Problem> {
    match metadata.list(TOKENS) {
        Some(tokens) => in_range("the vocabulary", i128::from(tokens), VOCABULARY),
        None if metadata.has(size_key) => within(metadata, size_key, VOCABULARY),
        None => Problem::unusable("has no vocabulary, so it can read no text: take a complete conversion of the model"),
    }
}

/// llama.cpp warns and goes on, and whoever then asks for the text of such a token ends the process.
fn special_tokens_exist(metadata: &Metadata, vocabulary: u32) -> Result<(), Problem> {
    for (key, value) in metadata.iter() {
        let &Value::Whole(id) = value else { continue };
        let special = key.starts_with("tokenizer.ggml.") && key.ends_with("_token_id");
        if special && id != NO_TOKEN && !(0..i128::from(vocabulary)).contains(&id) {
            return Problem::damaged(format!("its {key} is {id}, and there are {vocabulary} tokens"));
        }
    }
    Ok(())
}

fn within(metadata: &Metadata, key: &str, range: RangeInclusive<u32>) -> Result<u32, Problem> {
    match metadata.whole(key) {
        Some(number) => in_range(key, number, range),
        None => Problem::damaged(format!("it does not say its {key}")),
    }
}

fn in_range(what: &str, number: i128, range: RangeInclusive<u32>) -> Result<u32, Problem> {
    match u32::try_from(number) {
        Ok(number) if range.contains(&number) => Ok(number),
        _ => Problem::damaged(format!("{what} is {number}, outside {}..={}", range.start(), range.end())),
    }
}

fn optional(metadata: &Metadata, key: &str) -> Option<u32> {
    metadata.whole(key).and_then(|number| u32::try_from(number).ok())
}

fn quantization(metadata: &Metadata, tensors: &Tensors) -> String {
    let said = metadata.whole("general.file_type").and_then(file_type_name);
    said.or_else(|| tensors.usual_format()).unwrap_or("none").to_owned()
}

fn pooling(id: i128) -> Option<Pooling> {
    match id {
        1 => Some(Pooling::Mean),
        2 => Some(Pooling::First),
        3 => Some(Pooling::Last),
        4 => Some(Pooling::Rank),
        _ => None,
    }
}
