//! How many retries a model may have: a share of its answers, and a few more, so that an outage is not multiplied.
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

use tokio::time::Instant;

/// A retry costs so many parts, so that an answer can earn a share of one.
const RETRY: u32 = 1_000;
/// So many retries can be earned in advance: what was well an hour ago says little about now.
const MOST: u32 = 100 * RETRY;
/// So many of the spare retries come back in a second.
const PER_SECOND: f64 = 1.0;

/// What is left of it. Shared by all calls of a model.
pub(super) struct Budget {
    share: u32,
    earned: AtomicU32,
    spare_most: f64,
    spare: Mutex<(f64, Instant)>, // as it was then
}

impl Budget {
    /// Each answer earns this share of a retry; so many more are there from the beginning, and come back one a second.
    pub(super) fn new(share: f64, spare: u32) -> Budget {
        let (share, spare) = ((share * f64::from(RETRY)) as u32, f64::from(spare));
        Budget { share, earned: AtomicU32::new(0), spare_most: spare, spare: Mutex::new((spare, Instant::now())) }
    }

    /// An answer has begun. In quiet times all is earned, and this only reads.
    pub(super) fn earn(&self) {
        if self.earned.load(Relaxed) < MOST {
            self.earned.fetch_add(self.share, Relaxed);
        }
    }

    /// Takes a retry, if one is left.
    pub(super) fn spend(&self) -> bool {
        let taken = self.earned.fetch_update(Relaxed, Relaxed, |earned| earned.checked_sub(RETRY));
        taken.is_ok() || self.spend_spare()
    }

    fn spend_spare(&self) -> bool {
        let mut spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner);
        let (left, since) = *spare;
        let left = (left + since.elapsed().as_secs_f64() * PER_SECOND).min(self.spare_most);
        let is_left = left >= 1.0;
        *spare = (if is_left { left - 1.0 } else { left }, Instant::now());
        is_left
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn spent(budget: &Budget) -> usize {
        (0..1_000).take_while(|_| budget.spend()).count()
    }

    #[tokio::test(start_paused = true)]
    async fn a_hundred_answers_earn_twenty_retries_beside_the_spare_ones() {
        let budget = Budget::new(0.2, 10);
        (0..100).for_each(|_| budget.earn());
        assert_eq!(spent(&budget), 20 + 10);
        assert_eq!(spent(&budget), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn spare_retries_come_back_one_a_second_and_no_more_than_there_were() {
        let budget = Budget::new(0.2, 10);
        spent(&budget);
        tokio::time::advance(Duration::from_secs(3)).await;
        assert_eq!(spent(&budget), 3);
        tokio::time::advance(Duration::from_secs(3_600)).await;
        assert_eq!(spent(&budget), 10);
    }

    #[tokio::test(start_paused = true)]
    async fn a_long_good_time_does_not_earn_a_long_bad_one() {
        let budget = Budget::new(0.2, 0);
        (0..100_000).for_each(|_| budget.earn());
        assert_eq!(spent(&budget), 100);
    }
}
