//! How the letters of each topic stand.

use std::{collections::BTreeMap, fmt, sync::Arc};

use chrono::{DateTime, TimeDelta, Utc};

use super::{Ledger, Letter, Scope, State, scan};
use crate::kafka::Kafka;

/// How many letters are in each state.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally(BTreeMap<State, u64>);

impl Tally {
    /// Takes in a letter's state.
    pub fn add(&mut self, state: State) {
        *self.0.entry(state).or_default() += 1;
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All of them.
    pub fn total(&self) -> u64 {
        self.0.values().sum()
    }
}

/// `20 resolved, 5 dead-again`.
impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let states = self.0.iter().map(|(state, count)| format!("{count} {}", state.as_str()));
        f.write_str(&states.collect::<Vec<_>>().join(", "))
    }
}

/// Letters of a topic by their state, and the oldest of those that are open.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Nothing was done with them yet.
    pub open: u64,
    /// Put back, outcome unknown.
    pub requeued: u64,
    /// Put back, and their group is done with them.
    pub resolved: u64,
    /// Put back, and dead as a new letter.
    pub dead_again: u64,
    /// Closed by an operator.
    pub discarded: u64,
    /// No dead letters at all.
    pub foreign: u64,
    /// Those that died within the last hour, whatever became of them.
    pub last_hour: u64,
    /// When the oldest open one died.
    pub oldest_open: Option<DateTime<Utc>>,
    /// The broker's timestamp of the open letter that retention deletes first, milliseconds since the epoch.
    pub first_deleted: Option<i64>,
}

impl Counts {
    /// Takes in a letter.
    pub fn add(&mut self, letter: &Letter, state: State, now: DateTime<Utc>) {
        let count = match state {
            State::Open => &mut self.open,
            State::Requeued => &mut self.requeued,
            State::Resolved => &mut self.resolved,
            State::DeadAgain => &mut self.dead_again,
            State::Discarded => &mut self.discarded,
            State::Foreign => &mut self.foreign,
        };
        *count += 1;
        let at = letter.failed_at();
        self.last_hour += u64::from(at > now - TimeDelta::hours(1));
        if state == State::Open {
            self.oldest_open = Some(self.oldest_open.map_or(at, |oldest| oldest.min(at)));
            let written = letter.timestamp_ms;
            self.first_deleted = Some(self.first_deleted.map_or(written, |first| first.min(written)));
        }
    }

    /// How many are in each state.
    pub fn by_state(&self) -> [(State, u64); 6] {
        [
            (State::Open, self.open),
            (State::Requeued, self.requeued),
            (State::Resolved, self.resolved),
            (State::DeadAgain, self.dead_again),
            (State::Discarded, self.discarded),
            (State::Foreign, self.foreign),
        ]
    }
}

/// Counts every topic in scope, those without a letter too, in bounded memory.
pub fn count(
    kafka: &Kafka,
    scope: &Scope,
    ledger: &Ledger,
    now: DateTime<Utc>,
) -> anyhow::Result<BTreeMap<Arc<str>, Counts>> {
    let none = || scope.topics().iter().map(|topic| (topic.clone(), Counts::default())).collect();
    let (counts, _) =
        scan(kafka, scope, ledger, none, |counts: &mut BTreeMap<Arc<str>, Counts>, letter, state| {
            counts.entry(letter.place.topic.clone()).or_default().add(&letter, state, now);
        })?;
    Ok(counts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{snapshot::tests::dead, time::from_ms};

    #[test]
    fn a_tally_says_how_many_are_in_which_state() {
        let mut tally = Tally::default();
        assert!(tally.is_empty());
        [State::Resolved, State::Discarded, State::Resolved].into_iter().for_each(|state| tally.add(state));
        assert_eq!((tally.total(), tally.to_string().as_str()), (3, "2 resolved, 1 discarded"));
    }

    #[test]
    fn states_are_counted_and_the_oldest_open_one_is_known() {
        let mut counts = Counts::default();
        let now = from_ms(3_700_000);
        for (offset, state) in [
            (1, State::Resolved),
            (50, State::Open),
            (200, State::Open),
            (3, State::Requeued),
            (4, State::DeadAgain),
        ] {
            counts.add(&dead(offset, 1), state, now);
        }
        assert_eq!(counts.by_state().map(|(_, count)| count), [2, 1, 1, 1, 0, 0]);
        assert_eq!(counts.oldest_open, Some(from_ms(50_000)));
        assert_eq!(counts.last_hour, 1, "only the one that died within the hour");
    }
}
