//! Who gets how many rows of the next batch.

/// Rows for each slot, given how many tokens each has to decode (0: none).
///
/// A running answer has one token to decode and always gets its row: prompts never stop it. Prompts share what the
/// budget leaves: equally, and what a short one does not need goes to the longer, so a short question behind a long document
/// is answered first.
pub(super) fn shares(pending: &[usize], batch: usize, prompt_rows: usize) -> Vec<usize> {
    let mut shares: Vec<usize> = pending.iter().map(|tokens| usize::from(*tokens == 1)).collect();
    let answers: usize = shares.iter().sum();
    let mut budget = prompt_rows.min(batch.saturating_sub(answers));
    let mut prompts: Vec<usize> = (0..pending.len()).filter(|slot| pending[*slot] > 1).collect();
    prompts.sort_by_key(|slot| pending[*slot]);
    for (nth, slot) in prompts.iter().enumerate() {
        let share = budget.div_ceil(prompts.len() - nth).min(pending[*slot]);
        shares[*slot] = share;
        budget -= share;
    }
    shares
}

#[cfg(test)]
mod tests {
    use super::shares;

    #[test]
    fn running_answers_get_their_row_however_long_the_prompts_are() {
        assert_eq!(shares(&[1, 900, 0, 1], 512, 64), [1, 64, 0, 1]);
    }

    #[test]
    fn a_short_prompt_is_not_held_up_by_a_long_one() {
        assert_eq!(shares(&[9000, 10, 9000], 512, 110), [50, 10, 50]);
    }

    #[test]
    fn a_batch_is_never_larger_than_it_may_be() {
        assert_eq!(shares(&[1, 1, 1, 700], 512, 512), [1, 1, 1, 509]);
        assert_eq!(shares(&[1, 1], 2, 512), [1, 1]);
    }

    #[test]
    fn every_prompt_moves_when_there_are_rows_enough() {
        let shares = shares(&[5, 6, 7, 8], 512, 4);
        assert_eq!(shares, [1, 1, 1, 1]);
    }
}
