//! Stores a model's weights in another format, by llama.cpp's own quantiser.
#![allow(unsafe_code)]

use llama_cpp_sys_2 as sys;
use llm_core::{Error, Kind, Result};
use std::ffi::CString;
use std::path::Path;

use crate::gguf;

/// Unpacks a quantised model to 16-bit floats. The same input gives the same bytes on every machine: a Q4_1 weight is a
/// product of 15 significant bits and one addition, so it is rounded once, however the compiler orders it.
///
/// # Errors
/// Those of [`gguf::check`], and llama.cpp's own complaint.
pub(crate) fn to_f16(from: &Path, to: &Path) -> Result<()> {
    gguf::check(from)?;
    super::model::backend();
    super::log::last_error();
    let (source, target) = (c_path(from)?, c_path(to)?);
    // SAFETY: it takes nothing and gives a plain struct.
    let mut params = unsafe { sys::llama_model_quantize_default_params() };
    params.ftype = sys::LLAMA_FTYPE_MOSTLY_F16;
    params.allow_requantize = true;
    // SAFETY: both paths are NUL-terminated and outlive the call, as do the parameters, whose pointers are all null;
    // llama.cpp catches its own exceptions here and returns non-zero. The header was checked above.
    match unsafe { sys::llama_model_quantize(source.as_ptr(), target.as_ptr(), &raw const params) } {
        0 => Ok(()),
        _ => Err(failed(from)),
    }
}

fn failed(from: &Path) -> Error {
    let why = super::log::last_error().unwrap_or_else(|| "no reason given".to_owned());
    Error::new(Kind::Internal, format!("llama.cpp cannot unpack {} ({why})", from.display()))
}

/// llama.cpp reads paths as UTF-8 on Windows, and as they are elsewhere.
fn c_path(path: &Path) -> Result<CString> {
    CString::new(path.as_os_str().as_encoded_bytes())
        .map_err(|_| Error::invalid(format!("{} is no path that C can read", path.display())))
}
