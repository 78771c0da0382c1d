//! What was last found out about a group's database, for those who look from outside.

use std::{collections::HashMap, sync::Arc, time::Duration};

use dead_letters::TopicPartition;
use parking_lot::Mutex;

/// Written by those who look after a group, read at each scrape. Cheap to clone; all clones are one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Observed(Arc<Mutex<Findings>>);

/// What was found.
#[derive(Clone, Debug, Default)]
pub(crate) struct Findings {
    /// Offsets without an outcome, of each lease of the group.
    pub(crate) unaccounted: HashMap<TopicPartition, i64>,
    /// Since when the record that was parked first waits, of each partition with one.
    pub(crate) parked_oldest: HashMap<TopicPartition, Duration>,
    /// How far the inbox reaches back beyond what it has to remember.
    pub(crate) inbox_past_retention: Duration,
    /// Age of whatever has kept dead rows for longest.
    pub(crate) oldest_snapshot: Duration,
}

impl Observed {
    /// Changes what is known.
    pub(crate) fn note(&self, change: impl FnOnce(&mut Findings)) {
        change(&mut self.0.lock());
    }

    /// What is known.
    pub(crate) fn read(&self) -> Findings {
        self.0.lock().clone()
    }
}
