//! One partition walked beside its journal: what is accounted for by it, what is not, and what others have to confirm.

use std::collections::BTreeMap;

use actors::journal::Mark;
use chrono::{DateTime, Utc};
use dead_letters::TopicPartition;
use uuid::Uuid;

use crate::{
    journal::{Cover, Piece, Written},
    kind::Kind,
    read::{PutBack, Seen},
};

/// A partition as its lease has it, and how much of it can still be read.
#[derive(Clone, Debug)]
pub(crate) struct Lane {
    pub(crate) source: TopicPartition,
    /// The group's requeue topic, where records are moved and not applied.
    pub(crate) requeue: bool,
    pub(crate) epoch: i64,
    pub(crate) first: i64,
    pub(crate) next: i64,
    pub(crate) replayed: i64,
    pub(crate) lost: i64,
    /// Offsets that it has passed, and that had to be journalled.
    pub(crate) passed: i64,
    /// Offsets that all rows of the journal together stand for, when the lease was read.
    pub(crate) journaled: i64,
    /// Where the first row begins.
    pub(crate) journaled_from: Option<i64>,
    /// The first offset still in Kafka.
    pub(crate) low: i64,
}

impl Lane {
    /// The first offset that has to have an outcome.
    pub(crate) fn begin(&self) -> i64 {
        self.journaled_from.map_or(self.first, |from| from.min(self.first))
    }

    /// The first of them whose record can still be read.
    pub(crate) fn start(&self) -> i64 {
        self.begin().max(self.low).min(self.next)
    }
}

/// An outcome the journal names, which something else has to confirm.
#[derive(Clone, Debug)]
pub(crate) struct Pending {
    pub(crate) source: TopicPartition,
    pub(crate) offset: i64,
    pub(crate) mark: Mark,
    pub(crate) event: Option<Uuid>,
    pub(crate) put_back: Option<PutBack>,
    /// Where its dead letter says that it came from, if it has one.
    pub(crate) origin: (TopicPartition, i64),
    /// What would confirm it may have been forgotten since.
    pub(crate) aged: bool,
    /// The inbox knows the event, and says that it died.
    pub(crate) dead: bool,
}

/// Offsets with which something is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    pub(crate) kind: Kind,
    pub(crate) from: i64,
    pub(crate) upto: i64,
    /// What the journal says of them.
    pub(crate) says: Option<Mark>,
}

/// What a walk found.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) outcomes: BTreeMap<Mark, i64>,
    pub(crate) unprovable: i64,
    pub(crate) pending: Vec<Pending>,
    pub(crate) findings: Vec<Finding>,
}

/// Offsets without a row.
#[derive(Clone, Copy, Debug)]
struct Hole {
    from: i64,
    upto: i64,
    before: Option<Written>,
    /// Up to here the rows may have been deleted by age.
    aged_upto: i64,
    young: bool,
}

/// The walk.
#[derive(Debug)]
pub(crate) struct Walk<'a> {
    lane: &'a Lane,
    /// What was written before may be forgotten.
    cutoff: DateTime<Utc>,
    pub(crate) found: Found,
    before: Option<Written>,
    hole: Option<Hole>,
    /// Offsets that the lease counts as lost and no hole stands for yet.
    lost_left: i64,
    /// Offsets without a row that are not lost.
    uncovered: i64,
}

impl<'a> Walk<'a> {
    pub(crate) fn new(lane: &'a Lane, cutoff: DateTime<Utc>) -> Self {
        let (found, before, hole) = (Found::default(), None, None);
        Self { lane, cutoff, found, before, hole, lost_left: lane.lost, uncovered: 0 }
    }

    /// Goes past offsets below `start`, whose records are gone: nothing can be proved of them. `cover` must know their rows.
    pub(crate) fn skip(&mut self, cover: &mut Cover, start: i64) {
        while let Some(piece) = cover.take(start) {
            self.found.unprovable += piece.upto - piece.from;
            match piece.says {
                Some((_, written)) => self.before = Some(written),
                None => self.uncovered += piece.upto - piece.from,
            }
        }
    }

    /// The next record, and the offsets before it that hold none. `cover` must know the rows of all of them.
    pub(crate) fn record(&mut self, cover: &mut Cover, seen: &Seen) {
        self.nothing(cover, seen.offset);
        let Some(piece) = cover.take(seen.offset + 1) else { return };
        let Some((mark, written)) = piece.says else {
            self.uncovered(piece, Some(seen.timestamp_ms));
            return;
        };
        self.covered(written);
        match mark {
            Mark::Gap => self.finding(Kind::GapWithRecord, piece, Some(mark)),
            Mark::Ignored => self.count(mark, 1),
            Mark::Applied | Mark::Duplicate | Mark::Parked | Mark::Dead | Mark::Moved => {
                self.count(mark, 1);
                self.found.pending.push(Pending {
                    source: self.lane.source.clone(),
                    offset: seen.offset,
                    mark,
                    event: seen.event.map(|(id, _)| id),
                    put_back: seen.put_back,
                    origin: seen.foreign.clone().unwrap_or((self.lane.source.clone(), seen.offset)),
                    aged: written.at < self.cutoff || (mark == Mark::Duplicate && self.is_old(seen)),
                    dead: false,
                });
            }
        }
    }

    /// The first of an event's records may have come long before the duplicate.
    fn is_old(&self, seen: &Seen) -> bool {
        let since = seen.event.map_or(i64::MAX, |(_, at_ms)| at_ms).min(seen.timestamp_ms);
        since < self.cutoff.timestamp_millis()
    }

    /// Offsets up to `upto` that hold no record.
    fn nothing(&mut self, cover: &mut Cover, upto: i64) {
        while let Some(piece) = cover.take(upto) {
            match piece.says {
                None => self.uncovered(piece, None),
                Some((mark, written)) => {
                    self.covered(written);
                    match mark {
                        Mark::Gap => self.count(mark, piece.upto - piece.from),
                        _ => self.finding(Kind::OutcomeWithoutRecord, piece, Some(mark)),
                    }
                }
            }
        }
    }

    /// Offsets from `from` up to `upto` whose records cannot be read: nothing confirms what the journal says of them.
    pub(crate) fn unread(&mut self, cover: &mut Cover, from: i64, upto: i64) {
        self.nothing(cover, from);
        while let Some(piece) = cover.take(upto) {
            match piece.says {
                None => self.uncovered(piece, None),
                Some((_, written)) => self.covered(written),
            }
        }
    }

    fn count(&mut self, mark: Mark, offsets: i64) {
        *self.found.outcomes.entry(mark).or_default() += offsets;
    }

    fn finding(&mut self, kind: Kind, piece: Piece, says: Option<Mark>) {
        let Piece { from, upto, .. } = piece;
        match self.found.findings.last_mut() {
            Some(last) if (last.kind, last.upto, last.says) == (kind, from, says) => last.upto = upto,
            _ => self.found.findings.push(Finding { kind, from, upto, says }),
        }
    }

    fn uncovered(&mut self, piece: Piece, timestamp_ms: Option<i64>) {
        let cutoff = self.cutoff;
        let hole = self.hole.get_or_insert(Hole {
            from: piece.from,
            upto: piece.from,
            before: self.before,
            aged_upto: piece.from,
            young: self.before.is_some_and(|written| written.at >= cutoff),
        });
        hole.upto = piece.upto;
        if let Some(timestamp_ms) = timestamp_ms {
            // Its batch was committed after it was published, so its row is younger still.
            hole.young |= timestamp_ms >= cutoff.timestamp_millis();
            if !hole.young {
                hole.aged_upto = piece.upto;
            }
        }
    }

    fn covered(&mut self, written: Written) {
        self.close(Some(written));
        self.before = Some(written);
    }

    /// Says what a hole is: skipped by a reset, deleted by age, or missing.
    fn close(&mut self, after: Option<Written>) {
        let Some(hole) = self.hole.take() else { return };
        let offsets = hole.upto - hole.from;
        // A reset raises the epoch; within one, offsets cannot be skipped.
        let epochs = (hole.before.map_or(1, |one| one.epoch), after.map_or(self.lane.epoch, |one| one.epoch));
        if epochs.0 < epochs.1 && offsets <= self.lost_left {
            self.lost_left -= offsets;
            self.found.unprovable += offsets;
            return;
        }
        self.uncovered += offsets;
        self.found.unprovable += hole.aged_upto - hole.from;
        if hole.aged_upto < hole.upto {
            let piece = Piece { from: hole.aged_upto, upto: hole.upto, says: None };
            self.finding(Kind::NoOutcome, piece, None);
        }
    }

    /// The last record was handed in: what the walk found, beside how many offsets the lease says went by.
    pub(crate) fn finish(mut self, cover: &mut Cover) -> Found {
        let lane = self.lane;
        self.nothing(cover, lane.next);
        self.close(None);
        let without_row = lane.passed - lane.journaled;
        // Rows of offsets that were gone over again may have been deleted by age and leave no hole.
        if without_row < 0 || without_row > self.uncovered + lane.replayed {
            let (from, upto) = (lane.next, lane.next + without_row);
            self.found.findings.push(Finding { kind: Kind::Totals, from, upto, says: None });
        }
        self.found
    }
}

impl Found {
    /// Offsets below `low` went to retention while they were read: what seemed wrong with them can not be known.
    pub(crate) fn forget_below(&mut self, low: i64) {
        for finding in self.findings.iter_mut().filter(|one| one.kind == Kind::OutcomeWithoutRecord) {
            let gone = low.min(finding.upto) - finding.from;
            if gone > 0 {
                self.unprovable += gone;
                finding.from += gone;
            }
        }
        self.findings.retain(|one| one.kind != Kind::OutcomeWithoutRecord || one.from < one.upto);
    }
}

#[cfg(test)]
mod tests;
