//! The Rust side of the shim: strings in, strings out, and no exception or pointer beyond this file.
#![allow(unsafe_code)]

use super::Rendered;
use crate::llama::Model;
use llama_cpp_sys_2 as sys;
use llm_core::{Error, Kind, Result};
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::ffi::{CStr, CString, c_char};
use std::ptr::{NonNull, null_mut};
use std::sync::Arc;

#[repr(C)]
struct EngineChat {
    _opaque: [u8; 0],
}

unsafe extern "C" {
    fn engine_chat_new(
        model: *const sys::llama_model,
        source: *const c_char,
        error: *mut *mut c_char,
    ) -> *mut EngineChat;
    fn engine_chat_free(chat: *mut EngineChat);
    fn engine_text_free(text: *mut c_char);
    fn engine_chat_abilities(chat: *const EngineChat, out: *mut *mut c_char) -> bool;
    fn engine_chat_render(chat: *const EngineChat, request: *const c_char, out: *mut *mut c_char) -> bool;
}

pub(super) struct Templates {
    raw: NonNull<EngineChat>,
    // The templates keep pointers into the vocabulary.
    _model: Arc<Model>,
}

// SAFETY: plain C++ heap data without thread affinity; never shared, as it is not Sync.
unsafe impl Send for Templates {}

impl Drop for Templates {
    fn drop(&mut self) {
        // SAFETY: `raw` came from engine_chat_new and is freed only here.
        unsafe { engine_chat_free(self.raw.as_ptr()) }
    }
}

impl Templates {
    pub(super) fn new(model: &Arc<Model>, source: &str) -> Result<Templates> {
        let source = text("chat_template", source)?;
        let mut out = null_mut();
        // SAFETY: the model is alive, `source` is NUL-terminated, and `out` receives a string that is ours to free.
        let raw = unsafe { engine_chat_new(model.raw(), source.as_ptr(), &mut out) };
        let error = taken(out);
        let raw = NonNull::new(raw).ok_or_else(|| unusable(&error))?;
        Ok(Templates { raw, _model: model.clone() })
    }

    pub(super) fn abilities(&self) -> Result<Value> {
        // SAFETY: `raw` is alive; `out` is a valid place for the answer.
        let answer = answered(|out| unsafe { engine_chat_abilities(self.raw.as_ptr(), out) });
        read(&answer.map_err(|why| unusable(&why))?)
    }

    pub(super) fn render(&self, request: &str) -> Result<Rendered> {
        let request = text("messages", request)?;
        // SAFETY: as above; `request` is NUL-terminated and lives through the call.
        let answer = answered(|out| unsafe { engine_chat_render(self.raw.as_ptr(), request.as_ptr(), out) });
        read(&answer.map_err(|why| refused(&why))?)
    }
}

fn answered(ask: impl FnOnce(*mut *mut c_char) -> bool) -> Result<String, String> {
    let mut out = null_mut();
    let worked = ask(&mut out);
    let answer = taken(out);
    if worked { Ok(answer) } else { Err(answer) }
}

/// The shim's string as ours, freed on its side.
fn taken(out: *mut c_char) -> String {
    if out.is_null() {
        return String::new();
    }
    // SAFETY: the shim leaves null or a NUL-terminated string from its malloc, which nobody else holds.
    unsafe {
        let text = CStr::from_ptr(out).to_string_lossy().into_owned();
        engine_text_free(out);
        text
    }
}

fn text(field: &str, text: &str) -> Result<CString> {
    CString::new(text).map_err(|_| Error::invalid(format!("`{field}` has a NUL character in it")).param(field))
}

fn read<T: DeserializeOwned>(json: &str) -> Result<T> {
    serde_json::from_str(json).map_err(|e| Error::new(Kind::Internal, "the template shim answered no JSON").because(e))
}

fn unusable(why: &str) -> Error {
    Error::new(Kind::Unavailable, format!("the model's chat template cannot be used: {}", first_line(why)))
}

/// The template itself may refuse (`raise_exception`): roles that do not alternate, an unknown role.
fn refused(why: &str) -> Error {
    Error::invalid(format!("the model's chat template refuses these messages: {}", first_line(why))).param("messages")
}

/// What follows the first line quotes the template, and could quote the prompt.
fn first_line(why: &str) -> &str {
    why.lines().find(|line| !line.trim().is_empty()).unwrap_or("no reason given").trim()
}
