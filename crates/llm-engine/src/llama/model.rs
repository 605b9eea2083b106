//! A GGUF model in memory: its weights, its vocabulary and what its header says.
#![allow(unsafe_code)]

use super::cuts::Cuts;
use crate::gguf::{self, Header};
use llama_cpp_2::llama_backend::LlamaBackend;
use llama_cpp_2::model::LlamaModel;
use llama_cpp_2::model::params::LlamaModelParams;
use llama_cpp_2::token::LlamaToken;
use llama_cpp_2::token_type::LlamaTokenAttr;
use llama_cpp_sys_2 as sys;
use llm_core::{Error, Kind, Result};
use std::path::Path;
use std::sync::OnceLock;

/// A token's id in its model's vocabulary.
pub(crate) type Token = i32;

pub(crate) struct Model {
    inner: LlamaModel,
    header: Header,
    cuts: Cuts,
    vocabulary: usize,
    dimensions: usize,
}

unsafe extern "C" {
    fn engine_spins_briefly();
}

/// llama.cpp's global state, made once and never freed: freeing it while a context lives crashes.
pub(crate) fn backend() -> Option<&'static LlamaBackend> {
    static BACKEND: OnceLock<Option<LlamaBackend>> = OnceLock::new();
    BACKEND.get_or_init(start_backend).as_ref()
}

fn start_backend() -> Option<LlamaBackend> {
    // SAFETY: does nothing; the reference keeps spin.c in the program.
    unsafe { engine_spins_briefly() };
    super::log::redirect();
    #[cfg(feature = "dynamic-backends")]
    load_kernels();
    LlamaBackend::init().ok()
}

/// Kernels lie beside the program when it is shipped, and in the build folder before that.
#[cfg(feature = "dynamic-backends")]
fn load_kernels() {
    let beside = std::env::current_exe().ok().and_then(|exe| Some(exe.parent()?.join("backends")));
    match beside.filter(|dir| dir.is_dir()) {
        Some(dir) => llama_cpp_2::llama_backend::load_backends_from_path(&dir),
        None => llama_cpp_2::llama_backend::load_backends(),
    }
}

impl Model {
    /// Loads the weights; `progress` hears 0.0 to 1.0 and says whether to go on.
    pub(crate) fn load(
        path: &Path,
        gpu_layers: Option<u32>,
        progress: impl FnMut(f32) -> bool + 'static,
    ) -> Result<Model> {
        tracing::info!(file = %path.display(), "the model's file is being read");
        let header = gguf::check_named(path, name(path))?;
        let backend = backend().ok_or_else(|| Error::new(Kind::Internal, "llama.cpp is in use by another library"))?;
        let mut params = LlamaModelParams::default().with_progress_callback(progress);
        if let Some(layers) = gpu_layers {
            params = params.with_n_gpu_layers(layers);
        }
        super::log::last_error();
        let inner = LlamaModel::load_from_file(backend, path, &params).map_err(|error| unreadable(path, &error))?;
        Model::checked(inner, header, path)
    }

    fn checked(inner: LlamaModel, header: Header, path: &Path) -> Result<Model> {
        let (vocabulary, dimensions) = (inner.n_vocab(), inner.n_embd_out());
        if vocabulary <= 0 || dimensions <= 0 {
            return Err(Error::new(Kind::Unavailable, format!("{} has no vocabulary", name(path))));
        }
        let cuts = Cuts::new(control_tokens(&inner));
        Ok(Model { inner, header, cuts, vocabulary: vocabulary as usize, dimensions: dimensions as usize })
    }

    /// The C model. It is not changed through this pointer by anything but `llama_init_from_model`, which takes it mutable
    /// and leaves it alone.
    pub(crate) fn raw(&self) -> *mut sys::llama_model {
        const _: () = assert!(size_of::<LlamaModel>() == size_of::<*mut sys::llama_model>());
        // SAFETY: LlamaModel is #[repr(transparent)] over the pointer (0.1.160, pinned); the size is asserted above.
        unsafe { *(&raw const self.inner).cast::<*mut sys::llama_model>() }
    }

    /// How many tokens there are.
    pub(crate) fn vocabulary(&self) -> usize {
        self.vocabulary
    }

    /// Length of an embedding.
    pub(crate) fn dimensions(&self) -> usize {
        self.dimensions
    }

    /// What its file says of it.
    pub(crate) fn header(&self) -> &Header {
        &self.header
    }

    /// Whether this is one of its tokens. llama.cpp throws, which ends the process, when asked about another.
    pub(crate) fn knows(&self, token: Token) -> bool {
        usize::try_from(token).is_ok_and(|id| id < self.vocabulary)
    }

    pub(crate) fn ends(&self, token: Token) -> bool {
        self.knows(token) && self.inner.vocab().is_eog(LlamaToken(token))
    }

    /// The tokens of a text. `special` adds what the model wants at the ends (BOS, CLS ..). The spelling of a control token,
    /// such as `<|im_end|>`, is read as that token, as vLLM does.
    pub(crate) fn tokenize(&self, text: &str, special: Special) -> Vec<Token> {
        let mut tokens: Vec<Token> =
            self.cuts.pieces(text).into_iter().flat_map(|piece| self.tokens(piece, false)).collect();
        if special == Special::Added {
            let ends = self.tokens("", true);
            let (first, last) = ends.split_at(usize::from(self.inner.vocab().should_add_bos()).min(ends.len()));
            tokens.splice(..0, first.iter().copied());
            tokens.extend(last);
        }
        tokens
    }

    fn tokens(&self, text: &str, special: bool) -> Vec<Token> {
        let tokens = self.inner.vocab().tokenize(text.as_bytes(), special, true);
        tokens.into_iter().map(|token| token.0).collect()
    }

    /// The bytes of a token; not always whole characters. Control tokens have none.
    pub(crate) fn piece(&self, token: Token) -> Vec<u8> {
        self.spelled(token, false)
    }

    /// The same with the spelling of control tokens.
    pub(crate) fn spelling(&self, token: Token) -> Vec<u8> {
        self.spelled(token, true)
    }

    fn spelled(&self, token: Token, control: bool) -> Vec<u8> {
        if !self.knows(token) {
            return Vec::new();
        }
        self.inner.vocab().token_to_piece(LlamaToken(token), control, None)
    }

    /// Encoders (BERT) embed and cannot generate.
    pub(crate) fn kind(&self) -> ModelKind {
        // SAFETY: plain questions to a model that is alive.
        let (encoder, decoder) =
            unsafe { (sys::llama_model_has_encoder(self.raw()), sys::llama_model_has_decoder(self.raw())) };
        match (encoder, decoder) {
            (true, true) => ModelKind::Both,
            _ if encoder || !self.is_causal() => ModelKind::Encoder,
            _ => ModelKind::Decoder,
        }
    }

    fn is_causal(&self) -> bool {
        let key = format!("{}.attention.causal", self.header.architecture);
        self.inner.meta_val_str(&key).map_or(true, |value| value != "false")
    }

    /// Bytes of KV cache that one token takes, in f16.
    pub(crate) fn bytes_per_token(&self) -> u64 {
        let heads = u64::from(self.inner.n_head().max(1));
        let width = self.inner.n_embd().max(0) as u64 / heads * u64::from(self.inner.n_head_kv());
        u64::from(self.inner.n_layer()) * width * 2 * 2
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.inner.size()
    }
}

/// What a model is built to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ModelKind {
    Decoder,
    Encoder,
    /// Encoder and decoder (T5): llama.cpp runs them, this engine does not.
    Both,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Special {
    Added,
    Left,
}

/// Spellings of the tokens that llama.cpp looks for in a text before it tokenizes the rest.
fn control_tokens(model: &LlamaModel) -> impl Iterator<Item = Vec<u8>> {
    let sought = LlamaTokenAttr::Control | LlamaTokenAttr::UserDefined | LlamaTokenAttr::Unknown;
    let vocabulary = model.vocab();
    let all =
        (0..vocabulary.n_tokens()).map(LlamaToken).filter(move |token| vocabulary.attr(*token).intersects(sought));
    all.map(|token| model.vocab().token_to_piece(token, true, None))
}

/// What errors call the file: clients see them, and where it lies is the operator's business, whom the log tells.
fn name(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

fn unreadable(path: &Path, error: &dyn std::fmt::Display) -> Error {
    let why = super::log::last_error().unwrap_or_else(|| error.to_string());
    let why = why.replace(&path.display().to_string(), &name(path));
    Error::new(Kind::Unavailable, format!("{} cannot be loaded: {why}", name(path)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_llama_cpp_says_of_a_file_is_told_without_its_folder() {
        let error =
            unreadable("/srv/models/a.gguf".as_ref(), &"failed to open /srv/models/a.gguf: too many open files");
        assert_eq!(error.to_string(), "a.gguf cannot be loaded: failed to open a.gguf: too many open files");
    }
}
