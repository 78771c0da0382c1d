//! How much an audit keeps in memory.

/// How much is taken at a time. What an audit finds does not depend on it; how often it asks does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Records read and handed over together.
    pub records: usize,
    /// Outcomes looked up by one query.
    pub outcomes: usize,
    /// Outcomes without confirmation that are kept; at that number dead letters and the ledger are read for them.
    pub open: usize,
}

impl Bounds {
    /// With room for one of each at the least.
    pub(crate) fn at_least_one(self) -> Self {
        let Self { records, outcomes, open } = self;
        Self { records: records.max(1), outcomes: outcomes.max(1), open: open.max(1) }
    }
}

impl Default for Bounds {
    fn default() -> Self {
        Self { records: 2_000, outcomes: 10_000, open: 100_000 }
    }
}
