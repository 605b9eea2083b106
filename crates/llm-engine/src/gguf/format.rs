//! The number formats that llama.cpp knows for weights, and how many bytes each takes.

use super::Problem;

/// `block` numbers are stored together in `bytes` bytes.
#[derive(Debug, PartialEq)]
pub(super) struct Format {
    id: u32,
    pub(super) name: &'static str,
    pub(super) block: u64,
    pub(super) bytes: u64,
}

const fn row(id: u32, name: &'static str, block: u64, bytes: u64) -> Format {
    Format { id, name, block, bytes }
}

/// `ggml_type` of llama.cpp's ggml.h, sizes as its compiler gives them; the missing numbers were withdrawn.
const FORMATS: &[Format] = &[
    row(0, "F32", 1, 4),
    row(1, "F16", 1, 2),
    row(2, "Q4_0", 32, 18),
    row(3, "Q4_1", 32, 20),
    row(6, "Q5_0", 32, 22),
    row(7, "Q5_1", 32, 24),
    row(8, "Q8_0", 32, 34),
    row(9, "Q8_1", 32, 36),
    row(10, "Q2_K", 256, 84),
    row(11, "Q3_K", 256, 110),
    row(12, "Q4_K", 256, 144),
    row(13, "Q5_K", 256, 176),
    row(14, "Q6_K", 256, 210),
    row(15, "Q8_K", 256, 292),
    row(16, "IQ2_XXS", 256, 66),
    row(17, "IQ2_XS", 256, 74),
    row(18, "IQ3_XXS", 256, 98),
    row(19, "IQ1_S", 256, 50),
    row(20, "IQ4_NL", 32, 18),
    row(21, "IQ3_S", 256, 110),
    row(22, "IQ2_S", 256, 82),
    row(23, "IQ4_XS", 256, 136),
    row(24, "I8", 1, 1),
    row(25, "I16", 1, 2),
    row(26, "I32", 1, 4),
    row(27, "I64", 1, 8),
    row(28, "F64", 1, 8),
    row(29, "IQ1_M", 256, 56),
    row(30, "BF16", 1, 2),
    row(34, "TQ1_0", 256, 54),
    row(35, "TQ2_0", 256, 66),
    row(39, "MXFP4", 32, 17),
    row(40, "NVFP4", 64, 36),
    row(41, "Q1_0", 128, 18),
    row(42, "Q2_0", 64, 18),
];

impl Format {
    pub(super) fn of(tensor: &str, id: u32) -> Result<&'static Format, Problem> {
        FORMATS.iter().find(|format| format.id == id).map_or_else(|| unknown(tensor, id), Ok)
    }
}

fn unknown<T>(tensor: &str, id: u32) -> Result<T, Problem> {
    match id {
        4 | 5 | 31..=33 | 36..=38 => Problem::unusable(format!(
            "stores {tensor} in the withdrawn format {id}: take a current conversion of the model (Q4_0 serves instead)"
        )),
        43..=255 => Problem::unusable(format!(
            "stores {tensor} in format {id}, newer than this program's llama.cpp: update, or take another quantisation"
        )),
        _ => Problem::damaged(format!("the tensor {tensor} has the unknown format {id}")),
    }
}

/// What `general.file_type` says of a whole file (`llama_ftype` of llama.h).
pub(super) fn file_type_name(id: i128) -> Option<&'static str> {
    Some(match id {
        0 => "F32",
        1 => "F16",
        2 => "Q4_0",
        3 => "Q4_1",
        7 => "Q8_0",
        8 => "Q5_0",
        9 => "Q5_1",
        10 => "Q2_K",
        11 => "Q3_K_S",
        12 => "Q3_K_M",
        13 => "Q3_K_L",
        14 => "Q4_K_S",
        15 => "Q4_K_M",
        16 => "Q5_K_S",
        17 => "Q5_K_M",
        18 => "Q6_K",
        19 => "IQ2_XXS",
        20 => "IQ2_XS",
        21 => "Q2_K_S",
        22 => "IQ3_XS",
        23 => "IQ3_XXS",
        24 => "IQ1_S",
        25 => "IQ4_NL",
        26 => "IQ3_S",
        27 => "IQ3_M",
        28 => "IQ2_S",
        29 => "IQ2_M",
        30 => "IQ4_XS",
        31 => "IQ1_M",
        32 => "BF16",
        36 => "TQ1_0",
        37 => "TQ2_0",
        38 => "MXFP4",
        39 => "NVFP4",
        40 => "Q1_0",
        41 => "Q2_0",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_listed_once_each_in_order() {
        assert!(FORMATS.windows(2).all(|pair| pair[0].id < pair[1].id));
    }

    #[test]
    fn a_withdrawn_a_future_and_a_nonsense_format_are_told_apart() {
        let said = |id| Format::of("w", id).unwrap_err().to_string();
        assert!(said(31).contains("withdrawn"), "{}", said(31));
        assert!(said(60).contains("newer"), "{}", said(60));
        assert!(said(4_000_000_000).contains("damaged"), "{}", said(4_000_000_000));
    }
}
