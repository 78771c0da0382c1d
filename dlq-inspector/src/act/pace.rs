//! How many letters go at a time, and when the next may.

use std::time::{Duration, Instant};

/// Letters in one transaction: enough to be fast, few enough to end well within the transaction's time.
const BATCH: usize = 200;

/// Keeps to a rate by the time the next batch may go.
#[derive(Debug)]
pub struct Pace {
    rate: Option<u32>,
    next: Instant,
}

impl Pace {
    /// At most `rate` letters a second, when there is a rate.
    pub fn new(rate: Option<u32>) -> Self {
        Self { rate, next: Instant::now() }
    }

    /// Letters of the next batch, at most.
    pub fn batch(&self) -> usize {
        self.rate.and_then(|rate| usize::try_from(rate).ok()).map_or(BATCH, |rate| rate.clamp(1, BATCH))
    }

    /// When it may go.
    pub fn next(&self) -> Instant {
        self.next
    }

    /// So many were sent.
    pub fn sent(&mut self, count: usize) {
        if let Some(rate) = self.rate {
            let count = u32::try_from(count).unwrap_or(u32::MAX);
            self.next = self.next.max(Instant::now()) + Duration::from_secs(1) * count / rate.max(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_bounds_the_batch_and_spaces_the_next() {
        assert_eq!(Pace::new(None).batch(), BATCH);
        assert_eq!(Pace::new(Some(1_000_000)).batch(), BATCH);
        let mut pace = Pace::new(Some(50));
        assert_eq!(pace.batch(), 50);
        let before = pace.next();
        pace.sent(25);
        assert!(pace.next() >= before + Duration::from_millis(500));
    }
}
