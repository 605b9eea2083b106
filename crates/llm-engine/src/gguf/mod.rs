//! Checks a model file in safe Rust before llama.cpp, which aborts the process on some bad ones, may open it.

mod architectures;
mod format;
mod header;
mod limits;
mod metadata;
mod problem;
mod source;
mod tensors;
mod write;

use std::fmt::Display;
use std::fs::File;
use std::io::{self, BufReader};
use std::path::Path;

use llm_core::{Error, Kind, Result};

pub use header::{Header, Pooling};
pub use problem::Problem;
pub use write::{Setting, Stored, Writer};

/// Reads the header of the model file at `path` and checks that llama.cpp can be trusted with it.
///
/// It takes milliseconds and reads no weights. Every length and count is compared with the file's size before it is
/// believed, so a hostile file costs neither memory nor time.
///
/// # Errors
/// `NotFound` when there is no such file, else `Invalid`: one sentence that names the file, what is wrong and the remedy.
///
/// ```no_run
/// let header = llm_engine::gguf::check("model.gguf".as_ref())?;
/// println!("{} of {} layers, trained on {} tokens", header.architecture, header.block_count, header.context_length);
/// # Ok::<(), llm_core::Error>(())
/// ```
pub fn check(path: &Path) -> Result<Header> {
    check_named(path, path.display())
}

/// The same, with another name for the file in the error: clients are not told where it lies.
pub(crate) fn check_named(path: &Path, name: impl Display) -> Result<Header> {
    read(path).map_err(|problem| {
        let message = format!("{name} {problem}");
        Error::new(kind(&problem), message).because(problem)
    })
}

fn read(path: &Path) -> Result<Header, Problem> {
    let file = File::open(path)?;
    let about = file.metadata()?;
    if about.is_dir() {
        return Problem::unusable("is a folder: give the path of the .gguf file in it");
    }
    Header::read(BufReader::with_capacity(1 << 16, file), about.len())
}

fn kind(problem: &Problem) -> Kind {
    match problem {
        Problem::Unreadable(error) if error.kind() == io::ErrorKind::NotFound => Kind::NotFound,
        _ => Kind::Invalid,
    }
}
