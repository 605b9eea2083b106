//! Cuts long texts before control tokens: llama.cpp's search for those takes quadratic time, and a megabyte of `<|im_end|>`
//! would keep it busy for minutes.

use aho_corasick::{AhoCorasick, MatchKind};

/// Shorter texts are quick in any case.
const LONG: usize = 16 << 10;

/// Knows the spellings of a vocabulary's control tokens.
pub(super) struct Cuts(Option<AhoCorasick>);

impl Cuts {
    pub(super) fn new(spellings: impl Iterator<Item = Vec<u8>>) -> Cuts {
        let spellings: Vec<Vec<u8>> = spellings.filter(|spelling| !spelling.is_empty()).collect();
        // Where spellings overlap the longest is the token, and none is cut through.
        let search = AhoCorasick::builder().match_kind(MatchKind::LeftmostLongest).build(spellings);
        Cuts(search.ok())
    }

    /// Pieces whose tokens, one after the other, are the text's: each but the first begins with a control token.
    pub(super) fn pieces<'t>(&self, text: &'t str) -> Vec<&'t str> {
        let mut pieces = Vec::new();
        let mut from = 0;
        if text.len() > LONG
            && let Some(search) = &self.0
        {
            for found in search.find_iter(text) {
                if found.start() >= from + LONG {
                    pieces.push(&text[from..found.start()]);
                    from = found.start();
                }
            }
        }
        pieces.push(&text[from..]);
        pieces
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_before_control_tokens_only_and_nothing_is_lost() {
        let cuts = Cuts::new(["<e>", "<e>x", ""].map(|s| s.as_bytes().to_vec()).into_iter());
        let text = format!("{}<e>x", "wörd ".repeat(3000)).repeat(4);
        let pieces = cuts.pieces(&text);
        assert!(pieces.concat() == text, "something is lost");
        assert_eq!(pieces.len(), 5);
        assert!(pieces[1..].iter().all(|piece| piece.starts_with("<e>x")));
        assert_eq!(cuts.pieces("short<e>").len(), 1);
        assert_eq!(cuts.pieces(&"plain ".repeat(10_000)).len(), 1);
    }
}
