//! Vectors as OpenAI's clients like them: base64 of little-endian f32.
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

pub(super) fn encode(vector: &[f32]) -> String {
    STANDARD.encode(vector.iter().flat_map(|n| n.to_le_bytes()).collect::<Vec<u8>>())
}

pub(super) fn decode(text: &str) -> Option<Vec<f32>> {
    let bytes = STANDARD.decode(text).ok().filter(|b| b.len().is_multiple_of(4))?;
    Some(bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vector_comes_back_as_it_went() {
        let vector = [0.25, -1.5, f32::MIN_POSITIVE];
        assert_eq!(decode(&encode(&vector)).unwrap(), vector);
        assert_eq!(decode("AAA="), None);
    }
}
