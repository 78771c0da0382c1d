//! How many records a batch may hold, so that its transaction ends in time.

/// Halves with every batch that took too long, and grows a little with every full one that did not.
#[derive(Debug)]
pub(super) struct BatchSize {
    most: usize,
    max: usize,
}

impl BatchSize {
    /// At most `max` records, as long as they end in time.
    pub(super) fn new(max: usize) -> Self {
        Self { most: max.max(1), max: max.max(1) }
    }

    /// Records the next batch may hold.
    pub(super) fn most(&self) -> usize {
        self.most
    }

    /// Whether batches hold less than they may.
    pub(super) fn is_slowed(&self) -> bool {
        self.most < self.max
    }

    /// A batch of so many records took too long.
    pub(super) fn too_slow(&mut self, records: usize) {
        self.most = (self.most.min(records) / 2).max(1);
    }

    /// A batch of so many records ended in time.
    pub(super) fn in_time(&mut self, records: usize) {
        if records >= self.most {
            self.most = (self.most + (self.max / 20).max(1)).min(self.max);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_halves_until_a_batch_passes_and_grows_with_full_ones() {
        let mut size = BatchSize::new(500);
        for most in [250, 125, 62, 31, 15, 7, 3, 1, 1] {
            size.too_slow(size.most());
            assert_eq!(size.most(), most);
        }
        size.in_time(0);
        assert_eq!(size.most(), 1, "a batch that was not full proves nothing");
        size.in_time(1);
        assert_eq!(size.most(), 26);
        for _ in 0..30 {
            size.in_time(size.most());
        }
        assert!(size.most() == 500 && !size.is_slowed());
        size.too_slow(40);
        assert_eq!(size.most(), 20, "half of what took too long");
    }
}
