//! Which instructions llama.cpp computes with, so that a slow build shows itself.
#![allow(unsafe_code)]

use llama_cpp_sys_2 as sys;
use std::ffi::CStr;

/// llama.cpp's own words, for example `CPU : SSE3 = 1 | AVX2 = 1 | AVX512 = 1 | REPACK = 1`.
pub fn instructions() -> String {
    super::model::backend();
    // SAFETY: returns a static, NUL-terminated string.
    let text = unsafe { CStr::from_ptr(sys::llama_print_system_info()) };
    text.to_string_lossy().trim_end_matches(['|', ' ']).to_owned()
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_instructions_in_use_are_named() {
        assert!(super::instructions().contains("CPU"), "{}", super::instructions());
    }
}
