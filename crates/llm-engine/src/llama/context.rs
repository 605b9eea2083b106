//! A llama.cpp context owned by one thread: decode, logits, embeddings, and the memory of each sequence.
//!
//! Through `llama-cpp-sys-2`, because the safe crate has no abort callback, borrows the model for the context's life, and
//! lets several calls abort the process. Everything that `GGML_ASSERT` would punish is checked here first.
#![allow(unsafe_code)]

use super::{Abort, Batch, Model};
use llama_cpp_sys_2 as sys;
use llm_core::{Error, Kind, Result};
use std::ffi::c_void;
use std::ptr::NonNull;
use std::sync::Arc;

/// What a context is made with.
#[derive(Clone, Debug)]
pub(crate) struct Shape {
    /// Cells of the one pool that all sequences share.
    pub(crate) cells: u32,
    /// The most rows of one decode.
    pub(crate) batch: u32,
    pub(crate) sequences: u32,
    pub(crate) threads: i32,
    /// Pool each sequence into a vector; `None` for a context that generates.
    pub(crate) pooling: Option<i32>,
}

/// How a decode went.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Decoded {
    Done,
    /// The pool has no room for these rows; nothing has changed.
    Full,
    /// The abort callback said stop; rows of this batch may be in memory and must be taken back.
    Aborted,
    /// llama.cpp refused or failed; the number is its own.
    Failed(i32),
}

pub(crate) struct Context {
    raw: NonNull<sys::llama_context>,
    batch: usize,
    wanted: Vec<bool>,
    // Both must outlive the context: it points into them.
    model: Arc<Model>,
    abort: Arc<Abort>,
}

// SAFETY: a llama_context has no thread affinity; it only must not be used by two threads at once, and it is not Sync.
unsafe impl Send for Context {}

impl Drop for Context {
    fn drop(&mut self) {
        // SAFETY: `raw` came from llama_init_from_model, is freed only here, and its model is still alive.
        unsafe { sys::llama_free(self.raw.as_ptr()) }
    }
}

/// Asked by ggml between the nodes of a graph, on whichever thread computes it.
unsafe extern "C" fn asked_to_abort(data: *mut c_void) -> bool {
    // SAFETY: `data` is the `Abort` that the context keeps alive; it is only read, through atomics.
    unsafe { &*data.cast::<Abort>() }.is_set()
}

impl Context {
    pub(crate) fn new(model: &Arc<Model>, shape: &Shape) -> Result<Context> {
        let abort = Arc::new(Abort::default());
        let params = params(shape, &abort);
        // SAFETY: the model is alive, and `params` holds no pointer but the abort callback's, which outlives the context.
        let raw = unsafe { sys::llama_init_from_model(model.raw(), params) };
        let raw = NonNull::new(raw).ok_or_else(|| refused(shape))?;
        Ok(Context { raw, batch: shape.batch as usize, wanted: Vec::new(), model: model.clone(), abort })
    }

    pub(crate) fn abort(&self) -> &Arc<Abort> {
        &self.abort
    }

    /// Computes the batch. More rows than the context was made for, or a token outside the vocabulary, would abort the
    /// process, so they are refused here.
    pub(crate) fn decode(&mut self, batch: &mut Batch) -> Decoded {
        if batch.is_empty() || batch.len() > self.batch || !batch.tokens().iter().all(|t| self.model.knows(*t)) {
            return Decoded::Failed(-1);
        }
        self.wanted.clear();
        self.wanted.extend((0..batch.len()).map(|row| batch.wants(row)));
        // SAFETY: the columns of `batch` live through the call and have `n_tokens` entries each; sizes and tokens were
        // checked above, sequence ids and positions are checked by llama.cpp itself (-1).
        match unsafe { sys::llama_decode(self.raw.as_ptr(), batch.raw()) } {
            0 => Decoded::Done,
            1 => Decoded::Full,
            2 => Decoded::Aborted,
            other => Decoded::Failed(other),
        }
    }

    /// The logits of a row of the last batch, if it asked for them.
    pub(crate) fn logits(&mut self, row: usize) -> Option<&[f32]> {
        if !self.wanted.get(row).copied().unwrap_or(false) {
            return None;
        }
        // SAFETY: the row was an output of the last decode; llama.cpp returns null or a row of n_vocab floats, which
        // stays in place until the next decode, and that needs `&mut self`.
        unsafe {
            let row = sys::llama_get_logits_ith(self.raw.as_ptr(), row as i32);
            (!row.is_null()).then(|| std::slice::from_raw_parts(row, self.model.vocabulary()))
        }
    }

    /// The pooled vector of a sequence of the last batch.
    pub(crate) fn embedding(&mut self, sequence: i32) -> Option<&[f32]> {
        // SAFETY: as for `logits`; a pooled vector has n_embd_out floats.
        unsafe {
            let vector = sys::llama_get_embeddings_seq(self.raw.as_ptr(), sequence);
            (!vector.is_null()).then(|| std::slice::from_raw_parts(vector, self.model.dimensions()))
        }
    }

    /// Forgets a sequence from a position on. Memories that keep a running state (recurrent, sliding window) cannot go
    /// back: then the whole sequence is forgotten. Tells how many positions are left.
    pub(crate) fn forget(&mut self, sequence: i32, from: usize) -> usize {
        // SAFETY: the context is alive; a null memory (encoders have none) is answered before it is used.
        unsafe {
            let memory = sys::llama_get_memory(self.raw.as_ptr());
            if memory.is_null() {
                return 0;
            }
            if sys::llama_memory_seq_rm(memory, sequence, from as i32, -1) {
                return from;
            }
            sys::llama_memory_seq_rm(memory, sequence, -1, -1);
        }
        0
    }

    /// Forgets everything, also after a failure that left the memory in an unknown state.
    pub(crate) fn clear(&mut self) {
        // SAFETY: as for `forget`.
        unsafe {
            let memory = sys::llama_get_memory(self.raw.as_ptr());
            if !memory.is_null() {
                sys::llama_memory_clear(memory, true);
            }
        }
    }
}

fn params(shape: &Shape, abort: &Arc<Abort>) -> sys::llama_context_params {
    // SAFETY: returns a plain struct by value.
    let mut params = unsafe { sys::llama_context_default_params() };
    params.n_ctx = shape.cells;
    params.n_batch = shape.batch;
    // One physical batch per decode: an abort or a failure then never leaves half of the rows done, and an encoder,
    // which must see a text whole, aborts the process when a batch is larger than this.
    params.n_ubatch = shape.batch;
    params.n_seq_max = shape.sequences;
    params.n_threads = shape.threads;
    params.n_threads_batch = shape.threads;
    params.kv_unified = true;
    params.no_perf = true;
    params.embeddings = shape.pooling.is_some();
    params.pooling_type = shape.pooling.unwrap_or(sys::LLAMA_POOLING_TYPE_UNSPECIFIED);
    params.abort_callback = Some(asked_to_abort);
    params.abort_callback_data = Arc::as_ptr(abort).cast_mut().cast();
    params
}

fn refused(shape: &Shape) -> Error {
    let why = super::log::last_error().unwrap_or_else(|| "llama.cpp gave no reason".into());
    Error::new(Kind::Unavailable, format!("no context of {} tokens could be made: {why}", shape.cells))
}
