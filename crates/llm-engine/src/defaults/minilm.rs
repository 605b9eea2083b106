//! Makes a GGUF of all-MiniLM-L6-v2 as its makers publish it: safetensors, a vocabulary and a configuration.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use half::f16;
use llm_core::{Error, Kind, Result};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde::Deserialize;

use crate::gguf::{Setting, Stored, Writer};

/// The published files.
pub(super) struct Published {
    pub(super) config: Vec<u8>,
    pub(super) tokenizer: Vec<u8>,
    pub(super) weights: Vec<u8>,
}

/// Only what the header needs.
#[derive(Deserialize)]
struct Config {
    max_position_embeddings: u32,
    hidden_size: u32,
    intermediate_size: u32,
    num_hidden_layers: u32,
    num_attention_heads: u32,
    layer_norm_eps: f32,
    type_vocab_size: u32,
}

#[derive(Deserialize)]
struct Tokenizer {
    added_tokens: Vec<Added>,
    model: Vocabulary,
}

#[derive(Deserialize)]
struct Added {
    id: u32,
    special: bool,
}

#[derive(Deserialize)]
struct Vocabulary {
    vocab: HashMap<String, u32>,
}

/// Writes the file to `out`; the same input gives the same bytes.
pub(super) fn convert(published: &Published, out: &Path) -> Result<()> {
    let config: Config = serde_json::from_slice(&published.config).map_err(strange)?;
    let tokenizer: Tokenizer = serde_json::from_slice(&published.tokenizer).map_err(strange)?;
    let weights = SafeTensors::deserialize(&published.weights).map_err(strange)?;
    let mut writer = Writer::default();
    describe(&mut writer, &config);
    list_tokens(&mut writer, &tokenizer, &config)?;
    write(writer, &tensors(&weights)?, out)
}

fn describe(writer: &mut Writer, config: &Config) {
    writer.set("general.architecture", Setting::Text("bert"));
    writer.set("general.name", Setting::Text("all-MiniLM-L6-v2"));
    writer.set("general.license", Setting::Text("apache-2.0"));
    writer.set("general.type", Setting::Text("model"));
    writer.set("bert.context_length", Setting::U32(config.max_position_embeddings));
    writer.set("bert.embedding_length", Setting::U32(config.hidden_size));
    writer.set("bert.feed_forward_length", Setting::U32(config.intermediate_size));
    writer.set("bert.block_count", Setting::U32(config.num_hidden_layers));
    writer.set("bert.attention.head_count", Setting::U32(config.num_attention_heads));
    writer.set("bert.attention.layer_norm_epsilon", Setting::F32(config.layer_norm_eps));
    writer.set("bert.attention.causal", Setting::Bool(false));
    writer.set("bert.pooling_type", Setting::U32(1)); // The mean of all tokens.
    writer.set("general.file_type", Setting::U32(1)); // Mostly F16.
    writer.set("general.quantization_version", Setting::U32(2));
}

fn list_tokens(writer: &mut Writer, tokenizer: &Tokenizer, config: &Config) -> Result<()> {
    const NORMAL: i32 = 1;
    const CONTROL: i32 = 3;
    let vocabulary = &tokenizer.model.vocab;
    let by_id: BTreeMap<u32, &String> = vocabulary.iter().map(|(token, &id)| (id, token)).collect();
    let special: HashSet<u32> =
        tokenizer.added_tokens.iter().filter(|token| token.special).map(|token| token.id).collect();
    let tokens: Vec<String> = by_id.values().map(|token| phantom(token)).collect();
    let kinds: Vec<i32> = by_id.keys().map(|id| if special.contains(id) { CONTROL } else { NORMAL }).collect();
    writer.set("tokenizer.ggml.model", Setting::Text("bert"));
    writer.set("tokenizer.ggml.tokens", Setting::Texts(&tokens));
    writer.set("tokenizer.ggml.token_type", Setting::I32s(&kinds));
    writer.set("tokenizer.ggml.token_type_count", Setting::U32(config.type_vocab_size));
    for (key, token) in SPECIAL {
        let id = vocabulary.get(token).ok_or_else(|| strange(format!("there is no token {token}")))?;
        writer.set(&format!("tokenizer.ggml.{key}_token_id"), Setting::U32(*id));
    }
    Ok(())
}

/// The tokens with a task; `seperator` is llama.cpp's spelling.
const SPECIAL: [(&str, &str); 7] = [
    ("unknown", "[UNK]"),
    ("seperator", "[SEP]"),
    ("padding", "[PAD]"),
    ("cls", "[CLS]"),
    ("mask", "[MASK]"),
    ("bos", "[CLS]"),
    ("eos", "[SEP]"),
];

/// llama.cpp marks the beginning of a word where WordPiece marks its continuation.
fn phantom(token: &str) -> String {
    match token.strip_prefix("##") {
        _ if token.starts_with('[') && token.ends_with(']') => token.to_owned(),
        Some(rest) => rest.to_owned(),
        None => format!("\u{2581}{token}"),
    }
}

/// A tensor on its way into the file.
struct Tensor<'a> {
    name: String,
    view: TensorView<'a>,
    stored: Stored,
}

fn tensors<'a>(weights: &'a SafeTensors<'a>) -> Result<Vec<Tensor<'a>>> {
    let mut views: Vec<_> = weights.iter().filter(|(name, _)| !is_unused(name)).collect();
    views.sort_unstable_by_key(|&(name, _)| name);
    views.into_iter().map(|(name, view)| tensor(name, view)).collect()
}

/// The positions are counted anew, and the pooler belongs to a task that sentences do not have.
fn is_unused(name: &str) -> bool {
    name == "embeddings.position_ids" || name.starts_with("pooler.")
}

fn tensor<'a>(name: &str, view: TensorView<'a>) -> Result<Tensor<'a>> {
    if view.dtype() != Dtype::F32 {
        return Err(strange(format!("{name} is {:?}, not F32", view.dtype())));
    }
    let renamed = renamed(name).ok_or_else(|| strange(format!("the tensor {name} is not known")))?;
    // Matrices are halved; biases, norms and the small position tables stay exact, as llama.cpp wants them.
    let is_matrix = view.shape().len() == 2 && !matches!(&*renamed, "position_embd.weight" | "token_types.weight");
    let stored = if is_matrix { Stored::F16 } else { Stored::F32 };
    Ok(Tensor { name: renamed, view, stored })
}

/// Hugging Face's names and llama.cpp's, without the layer in front and `.weight` or `.bias` behind.
const NAMES: [(&str, &str); 12] = [
    ("embeddings.LayerNorm", "token_embd_norm"),
    ("embeddings.position_embeddings", "position_embd"),
    ("embeddings.token_type_embeddings", "token_types"),
    ("embeddings.word_embeddings", "token_embd"),
    ("attention.output.LayerNorm", "attn_output_norm"),
    ("attention.output.dense", "attn_output"),
    ("attention.self.key", "attn_k"),
    ("attention.self.query", "attn_q"),
    ("attention.self.value", "attn_v"),
    ("intermediate.dense", "ffn_up"),
    ("output.LayerNorm", "layer_output_norm"),
    ("output.dense", "ffn_down"),
];

fn renamed(name: &str) -> Option<String> {
    let (stem, kind) = name.rsplit_once('.')?;
    let (block, stem) = match stem.strip_prefix("encoder.layer.") {
        Some(rest) => rest.split_once('.').map(|(layer, stem)| (format!("blk.{layer}."), stem))?,
        None => (String::new(), stem),
    };
    let (_, short) = NAMES.iter().find(|(long, _)| *long == stem)?;
    Some(format!("{block}{short}.{kind}"))
}

fn write(mut writer: Writer, tensors: &[Tensor<'_>], out: &Path) -> Result<()> {
    for tensor in tensors {
        // GGUF counts the sides of a matrix from the other end.
        let shape: Vec<u64> = tensor.view.shape().iter().rev().map(|&side| side as u64).collect();
        writer.tensor(&tensor.name, &shape, tensor.stored);
    }
    let written = File::create(out).map(BufWriter::new).and_then(|mut file| {
        writer.write_header(&mut file)?;
        tensors.iter().try_for_each(|tensor| Writer::write_tensor(&mut file, &bytes(tensor)))?;
        file.flush()
    });
    written.map_err(|error| Error::new(Kind::Invalid, format!("{} cannot be written: {error}", out.display())))
}

fn bytes(tensor: &Tensor<'_>) -> Vec<u8> {
    let numbers = tensor.view.data().as_chunks::<4>().0.iter().map(|&bytes| f32::from_le_bytes(bytes));
    match tensor.stored {
        Stored::F32 => tensor.view.data().to_vec(),
        Stored::F16 => numbers.flat_map(|number| f16::from_f32(number).to_le_bytes()).collect(),
    }
}

fn strange(what: impl std::fmt::Display) -> Error {
    Error::new(
        Kind::Upstream,
        format!("the package's model is not the one that was published ({what}): fetch it again"),
    )
}
