//! The table of tensors in a GGUF header: names, shapes, and where their bytes must lie.

use std::collections::{HashMap, HashSet};
use std::io::{Read, Seek};

use super::Problem;
use super::format::Format;
use super::source::Source;

const MOST_TENSORS: u64 = 65_536;
// llama.cpp's GGML_MAX_NAME, without the closing zero, and GGML_MAX_DIMS.
const LONGEST_NAME: u64 = 63;
const MOST_DIMENSIONS: u32 = 4;

/// One tensor as the header describes it.
pub(super) struct Tensor {
    name: String,
    format: &'static Format,
    elements: u64,
    bytes: u64,
    offset: u64,
}

/// All tensors of a file, their places not yet compared with its length.
pub(super) struct Tensors(Vec<Tensor>);

impl Tensors {
    /// How many follow; each takes at least a name of one letter, its dimensions, a type and an offset.
    pub(super) fn count<R: Read + Seek>(source: &mut Source<R>) -> Result<u64, Problem> {
        source.count("tensors", MOST_TENSORS, 25)
    }

    pub(super) fn read<R: Read + Seek>(source: &mut Source<R>, count: u64) -> Result<Tensors, Problem> {
        let mut names = HashSet::new();
        let mut tensors = Vec::new();
        for _ in 0..count {
            let tensor = read_tensor(source)?;
            if !names.insert(tensor.name.clone()) {
                return Problem::damaged(format!("the tensor {} stands there twice", tensor.name));
            }
            tensors.push(tensor);
        }
        Ok(Tensors(tensors))
    }

    pub(super) fn parameters(&self) -> u64 {
        self.0.iter().fold(0, |sum, tensor| sum.saturating_add(tensor.elements))
    }

    /// The format that most weights have.
    pub(super) fn usual_format(&self) -> Option<&'static str> {
        let mut sums: HashMap<&'static str, u64> = HashMap::new();
        for tensor in &self.0 {
            let sum = sums.entry(tensor.format.name).or_default();
            *sum = sum.saturating_add(tensor.elements);
        }
        sums.into_iter().max_by_key(|&(_, sum)| sum).map(|(name, _)| name)
    }

    /// Every tensor follows the one before, padded, as llama.cpp demands; returns where the last one ends.
    pub(super) fn end(&self, start: u64, alignment: u64) -> Result<u64, Problem> {
        let mut expected = 0u64;
        let mut end = start;
        for tensor in &self.0 {
            if tensor.offset != expected {
                let Tensor { name, offset, .. } = tensor;
                return Problem::damaged(format!("the tensor {name} lies at {offset}, not at {expected}"));
            }
            end = sum(&tensor.name, &[start, tensor.offset, tensor.bytes])?;
            expected = padded(sum(&tensor.name, &[tensor.offset, tensor.bytes])?, alignment)
                .map_or_else(|| too_large(&tensor.name), Ok)?;
        }
        Ok(end)
    }
}

/// The next multiple of `alignment`.
pub(super) fn padded(position: u64, alignment: u64) -> Option<u64> {
    position.checked_next_multiple_of(alignment)
}

fn read_tensor<R: Read + Seek>(source: &mut Source<R>) -> Result<Tensor, Problem> {
    let name = source.name("a tensor's name", LONGEST_NAME)?;
    let shape = read_shape(source, &name)?;
    let format = Format::of(&name, source.u32()?)?;
    let elements = shape.iter().try_fold(1u64, |product, &side| product.checked_mul(side));
    let elements = elements.map_or_else(|| too_large(&name), Ok)?;
    if shape[0] % format.block != 0 {
        return Problem::damaged(format!("{name} has rows of {} in blocks of {}", shape[0], format.block));
    }
    let bytes = (elements / format.block).checked_mul(format.bytes).map_or_else(|| too_large(&name), Ok)?;
    Ok(Tensor { name, format, elements, bytes, offset: source.u64()? })
}

fn read_shape<R: Read + Seek>(source: &mut Source<R>, name: &str) -> Result<[u64; 4], Problem> {
    let dimensions = source.u32()?;
    if dimensions > MOST_DIMENSIONS {
        return Problem::damaged(format!("the tensor {name} has {dimensions} dimensions"));
    }
    let mut shape = [1; MOST_DIMENSIONS as usize];
    for side in shape.iter_mut().take(dimensions as usize) {
        *side = source.u64()?;
        // llama.cpp counts in signed numbers.
        if i64::try_from(*side).is_err() {
            return too_large(name);
        }
    }
    Ok(shape)
}

fn sum(name: &str, parts: &[u64]) -> Result<u64, Problem> {
    let sum = parts.iter().try_fold(0u64, |sum, &part| sum.checked_add(part));
    sum.filter(|&sum| i64::try_from(sum).is_ok()).map_or_else(|| too_large(name), Ok)
}

fn too_large<T>(name: &str) -> Result<T, Problem> {
    Problem::damaged(format!("the tensor {name} is larger than any machine"))
}
