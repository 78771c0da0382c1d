//! What an audit found, and what it cost.

use std::{collections::BTreeMap, fmt};

use actors::journal::Mark;
use serde::Serialize;

use crate::{kind::Kind, problem::Problem, read::Cost};

/// Problems of one kind that are kept for each group; the others are counted.
const KEPT: usize = 100;

/// The audit of one consumer group.
#[derive(Clone, Debug, Serialize)]
pub struct GroupAudit {
    /// The group.
    pub group: String,
    /// Offsets proved, by outcome: of a record that was parked the one in which it ended, or `parked` while it waits.
    pub outcomes: BTreeMap<&'static str, i64>,
    /// Those of them that were parked first.
    pub after_waiting: BTreeMap<&'static str, i64>,
    /// Offsets of which nothing can be proved any more: deleted by retention, skipped by a reset, or forgotten by age.
    pub unprovable: i64,
    /// Offsets with which something is wrong, by what it is.
    pub unaccounted: BTreeMap<Kind, i64>,
    /// Records read of its topics, and bytes of their keys and values.
    pub read: Cost,
    /// The same of dead letters and the ledger.
    pub beside: Cost,
    /// Rows of the journal read.
    pub journal_rows: u64,
    /// Ids and offsets looked up in the tables.
    pub looked_up: u64,
    /// How long it took.
    pub seconds: f64,
    /// The first of each kind, and some more.
    #[serde(skip)]
    pub problems: Vec<Problem>,
}

impl GroupAudit {
    pub(crate) fn new(group: &str) -> Self {
        Self {
            group: group.to_owned(),
            outcomes: BTreeMap::new(),
            after_waiting: BTreeMap::new(),
            unprovable: 0,
            unaccounted: BTreeMap::new(),
            read: Cost::default(),
            beside: Cost::default(),
            journal_rows: 0,
            looked_up: 0,
            seconds: 0.0,
            problems: Vec::new(),
        }
    }

    pub(crate) fn count(&mut self, mark: Mark, offsets: i64) {
        *self.outcomes.entry(mark.word()).or_default() += offsets;
    }

    /// Takes in how many of the parked records have ended, and how. They count where they ended.
    pub(crate) fn waited(&mut self, ended: &BTreeMap<Mark, i64>) {
        for (mark, records) in ended {
            self.count(Mark::Parked, -records);
            self.count(*mark, *records);
            *self.after_waiting.entry(mark.word()).or_default() += records;
        }
    }

    /// The outcomes in words: `42 applied (7 after waiting) + 1 parked`.
    fn words(&self) -> String {
        let counted = Mark::ALL.iter().filter_map(|mark| {
            let count = *self.outcomes.get(mark.word())?;
            let waited = self.after_waiting.get(mark.word()).copied().unwrap_or_default();
            let waited = if waited == 0 { String::new() } else { format!(" ({waited} after waiting)") };
            (count != 0).then(|| format!("{count} {}{waited}", mark.word()))
        });
        let words: Vec<String> = counted.collect();
        if words.is_empty() { "nothing".to_owned() } else { words.join(" + ") }
    }

    pub(crate) fn problem(&mut self, problem: Problem) {
        *self.unaccounted.entry(problem.kind).or_default() += problem.offsets;
        if self.problems.iter().filter(|one| one.kind == problem.kind).count() < KEPT {
            self.problems.push(problem);
        }
    }

    /// Offsets proved.
    pub fn proved(&self) -> i64 {
        self.outcomes.values().sum()
    }
}

/// An audit of every offset.
#[derive(Clone, Debug, Serialize)]
pub struct Audit {
    /// By consumer group.
    pub groups: Vec<GroupAudit>,
    /// Records read of the groups' topics.
    pub records: u64,
    /// Offsets proved to have an outcome.
    pub proved: i64,
    /// Offsets of which nothing can be proved any more.
    pub unprovable: i64,
    /// What is wrong: the first of each kind, and up to a hundred of each kind and group.
    pub problems: Vec<Problem>,
    /// How long it took.
    pub seconds: f64,
}

impl Audit {
    /// Of groups that were audited in so many seconds.
    pub fn of(mut groups: Vec<GroupAudit>, seconds: f64) -> Self {
        let mut problems: Vec<Problem> =
            groups.iter_mut().flat_map(|group| std::mem::take(&mut group.problems)).collect();
        // Stable: within a kind they stay in the order of group, topic, partition and offset.
        problems.sort_by_key(|problem| problem.kind);
        Self {
            records: groups.iter().map(|group| group.read.records).sum(),
            proved: groups.iter().map(GroupAudit::proved).sum(),
            unprovable: groups.iter().map(|group| group.unprovable).sum(),
            groups,
            problems,
            seconds,
        }
    }

    /// Whether every offset that can still be proved has an outcome.
    pub fn is_clean(&self) -> bool {
        self.problems.is_empty()
    }
}

impl fmt::Display for Audit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for group in &self.groups {
            writeln!(
                f,
                "{:17} {} offsets proved = {}; {} no longer provable; {} records read in {:.1} s",
                group.group,
                group.proved(),
                group.words(),
                group.unprovable,
                group.read.records,
                group.seconds
            )?;
        }
        let bytes: u64 = self.groups.iter().map(|group| group.read.bytes + group.beside.bytes).sum();
        let beside: u64 = self.groups.iter().map(|group| group.beside.records).sum();
        writeln!(
            f,
            "cost              {} records, and {beside} dead letters and entries of the ledger read ({:.1} MiB), {} outcomes \
             looked up, {} rows of the journal, {:.1} s",
            self.records,
            bytes as f64 / f64::from(1 << 20),
            self.groups.iter().map(|group| group.looked_up).sum::<u64>(),
            self.groups.iter().map(|group| group.journal_rows).sum::<u64>(),
            self.seconds
        )?;
        if self.is_clean() {
            return write!(f, "every offset has an outcome");
        }
        let mut kinds: BTreeMap<Kind, i64> = BTreeMap::new();
        for (kind, offsets) in self.groups.iter().flat_map(|group| &group.unaccounted) {
            *kinds.entry(*kind).or_default() += offsets;
        }
        for (at, (kind, offsets)) in kinds.into_iter().enumerate() {
            let line = if at == 0 { "" } else { "\n" };
            let noun = if offsets == 1 { "offset" } else { "offsets" };
            write!(f, "{line}✗ {offsets} {noun} {kind}")?;
            if let Some(first) = self.problems.iter().find(|problem| problem.kind == kind) {
                write!(f, ", the first: {first}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_parked_counts_where_it_ended() {
        let mut group = GroupAudit::new("g");
        assert_eq!(group.words(), "nothing");
        group.count(Mark::Applied, 35);
        group.count(Mark::Parked, 10);
        group.waited(&BTreeMap::from([(Mark::Applied, 7), (Mark::Dead, 1)]));
        assert_eq!(group.words(), "42 applied (7 after waiting) + 2 parked + 1 dead (1 after waiting)");
        assert_eq!(group.proved(), 45, "no offset counts twice");
        group.waited(&BTreeMap::from([(Mark::Applied, 2)]));
        assert_eq!(group.words(), "44 applied (9 after waiting) + 1 dead (1 after waiting)");
    }
}
