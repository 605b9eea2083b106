//! llama.cpp's log lines as tracing events, and its last complaint, for errors that otherwise would have no text.
#![allow(unsafe_code)]

use llama_cpp_sys_2 as sys;
use std::cell::RefCell;
use std::ffi::{CStr, c_char, c_void};
use std::sync::Once;

thread_local! {
    // Per thread, because models load on their own threads and must not be blamed for each other's lines.
    static COMPLAINT: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Sends the log lines to tracing from now on; the first call counts.
pub(crate) fn redirect() {
    static ONCE: Once = Once::new();
    // SAFETY: `told` is a valid callback for the whole life of the process and needs no data.
    ONCE.call_once(|| unsafe { sys::llama_log_set(Some(told), std::ptr::null_mut()) });
}

/// The last error or warning that llama.cpp logged on this thread, taken away.
pub(crate) fn last_error() -> Option<String> {
    COMPLAINT.with_borrow_mut(Option::take)
}

unsafe extern "C" fn told(level: sys::ggml_log_level, text: *const c_char, _: *mut c_void) {
    if text.is_null() {
        return;
    }
    // SAFETY: llama.cpp hands over a NUL-terminated line that lives through the call.
    let line = unsafe { CStr::from_ptr(text) }.to_string_lossy();
    note(level, line.trim());
}

fn note(level: sys::ggml_log_level, line: &str) {
    match level {
        _ if line.is_empty() => {}
        sys::GGML_LOG_LEVEL_ERROR => complain(line),
        sys::GGML_LOG_LEVEL_WARN => tracing::debug!(target: "llama.cpp", "{line}"),
        // Hundreds of lines per load: nobody's business unless asked for.
        _ => tracing::trace!(target: "llama.cpp", "{line}"),
    }
}

fn complain(line: &str) {
    tracing::debug!(target: "llama.cpp", "{line}");
    COMPLAINT.with_borrow_mut(|complaint| {
        // The first error names the cause, the later ones only that loading failed.
        complaint.get_or_insert_with(|| without_function(line).to_owned());
    });
}

/// `llama_model_load: error loading model: no such tensor` -> `error loading model: no such tensor`
fn without_function(line: &str) -> &str {
    match line.split_once(": ") {
        Some((function, rest)) if !function.contains(' ') => rest,
        _ => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_error_is_kept_without_the_name_of_its_function() {
        note(sys::GGML_LOG_LEVEL_ERROR, "llama_model_load: error loading model: missing tensor");
        note(sys::GGML_LOG_LEVEL_ERROR, "llama_model_load_from_file_impl: failed to load model");
        assert_eq!(last_error().as_deref(), Some("error loading model: missing tensor"));
        assert_eq!(last_error(), None);
    }
}
