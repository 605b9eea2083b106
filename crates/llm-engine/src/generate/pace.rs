//! How many prompt rows a batch may take, so that a long prompt does not make the running answers stutter.

use std::time::Duration;

/// A token every tenth of a second still reads as a stream.
const BESIDE_ANSWERS: Duration = Duration::from_millis(100);
/// Nobody is waiting for a token, but a newcomer should not wait longer than this to be let in.
const ALONE: Duration = Duration::from_secs(1);
/// Fewer rows than this waste the matrix units.
const LEAST: usize = 16;

/// Learns how long a prompt row takes on this machine with this model.
pub(super) struct Pace {
    seconds_per_row: Option<f64>,
    /// Whether that is more than the first batch's word.
    is_warm: bool,
    batch: usize,
}

impl Pace {
    pub(super) fn new(batch: usize) -> Pace {
        Pace { seconds_per_row: None, is_warm: false, batch }
    }

    pub(super) fn note(&mut self, rows: usize, took: Duration) {
        // A few rows tell more of the cost of a step than of a row.
        if rows >= LEAST {
            let new = took.as_secs_f64() / rows as f64;
            // The first batch also brings the weights into memory, and the second knows better.
            let old = self.seconds_per_row.filter(|_| self.is_warm).unwrap_or(new);
            self.is_warm = self.seconds_per_row.is_some();
            self.seconds_per_row = Some(old + (new - old) / 4.0);
        }
    }

    /// The most rows of one batch.
    pub(super) fn batch(&self) -> usize {
        self.batch
    }

    /// Prompt rows for the next batch.
    pub(super) fn rows(&self, beside_answers: usize) -> usize {
        let aim = if beside_answers > 0 { BESIDE_ANSWERS } else { ALONE };
        let rows = match self.seconds_per_row {
            Some(seconds) => (aim.as_secs_f64() / seconds) as usize,
            // Unknown: a modest first step shows it.
            None => 64,
        };
        rows.clamp(LEAST.min(self.batch), self.batch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_model_reads_prompts_in_small_bites_beside_answers() {
        let mut pace = Pace::new(512);
        pace.note(64, Duration::from_millis(640));
        assert_eq!(pace.rows(0), 100);
        assert_eq!(pace.rows(3), LEAST);
        pace.note(2, Duration::from_millis(900));
        assert_eq!(pace.rows(0), 100);
    }

    #[test]
    fn what_the_first_batch_took_is_forgotten_after_the_second() {
        let mut pace = Pace::new(512);
        pace.note(64, Duration::from_millis(640));
        pace.note(100, Duration::from_millis(400));
        assert_eq!(pace.rows(0), 250);
        pace.note(250, Duration::from_millis(2000));
        assert_eq!(pace.rows(0), 200, "later ones count a quarter");
    }

    #[test]
    fn a_fast_model_reads_whole_batches() {
        let mut pace = Pace::new(512);
        pace.note(64, Duration::from_millis(1));
        assert_eq!((pace.rows(0), pace.rows(8)), (512, 512));
    }
}
