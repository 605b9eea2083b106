//! How many were answered, and how soon.

use std::time::Duration;

/// The outcome of a run in which every answer was right.
#[derive(Debug, Clone, Default)]
pub struct Report {
    elapsed: Duration,
    times: Vec<Duration>,
}

impl Report {
    /// Adds one client's times.
    pub(super) fn add(&mut self, times: Vec<Duration>) {
        self.times.extend(times);
    }

    pub(super) fn over(mut self, elapsed: Duration) -> Report {
        self.times.sort_unstable();
        Report { elapsed, ..self }
    }

    /// Questions answered.
    pub fn answered(&self) -> usize {
        self.times.len()
    }

    /// Questions answered in a second.
    pub fn per_second(&self) -> f64 {
        self.answered() as f64 / self.elapsed.as_secs_f64()
    }

    /// The time within which this share (0 to 1) was answered; zero if nothing was asked.
    pub fn within(&self, share: f64) -> Duration {
        let last = self.times.len().saturating_sub(1);
        self.times.get((last as f64 * share).round() as usize).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_the_answers_came_within_the_median() {
        let mut report = Report::default();
        report.add((1..=101).rev().map(Duration::from_micros).collect());
        let report = report.over(Duration::from_secs(2));
        assert_eq!(report.within(0.5), Duration::from_micros(51));
        assert_eq!(report.within(0.99), Duration::from_micros(100));
        assert_eq!(report.per_second(), 50.5);
    }
}
