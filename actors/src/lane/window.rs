//! The records of one partition that were delivered and are not finished, and where the partition is.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use chrono::{DateTime, Utc};
use dead_letters::{NextOffset, Offset};

use super::{
    item::Item,
    quarantine::{Quarantine, Refusal},
};
use crate::{
    Cause,
    lease::{Landmark, RecordAt},
    record::Record,
};

/// A lane's window. All of it is guarded by the lane's lock; nothing here waits.
#[derive(Debug, Default)]
pub(super) struct Window {
    queue: VecDeque<Delivered>,
    bytes: usize,
    /// Records at the front that the actor works on.
    in_flight: usize,
    /// Parked rows that the actor works on.
    parked_in_flight: Vec<i64>,
    /// Where the partition is; `None` until the first claim.
    position: Option<NextOffset>,
    /// The next offset wanted from Kafka.
    wanted: i64,
    /// Kafka delivers from somewhere else until the poll thread has sought where reading begins.
    needs_seek: bool,
    /// A record before `wanted` that was delivered before, or finished in an earlier claim: reading begins with it.
    landmark: Option<Landmark>,
    /// The last record that was delivered, or finished before the claim.
    last: Option<Landmark>,
    /// A record that the log was last seen to hold, and the newest that was finished, which takes its place once it was seen
    /// again.
    verified: Option<Landmark>,
    finished: Option<Landmark>,
    /// The log is not the one that was read, or cannot be read: nothing is taken.
    mismatch: Option<(Cause, Option<Landmark>)>,
    /// Counts what was committed, from the window or from `parked`.
    commits: u64,
}

#[derive(Debug)]
struct Delivered {
    record: Arc<Record>,
    gap: i64,
    at: Instant,
}

impl Window {
    /// An empty one of a partition that is not claimed yet.
    pub(super) fn new() -> Self {
        Self { needs_seek: true, ..Self::default() }
    }

    /// Adds what Kafka delivered. Records below the wanted offset, and all before a pending seek, are let go: they come
    /// again or were finished before. True when something was added.
    pub(super) fn offer(&mut self, records: impl Iterator<Item = Record>) -> bool {
        if self.position.is_none() || self.needs_seek {
            return false;
        }
        let at = Instant::now();
        let before = self.queue.len();
        for record in records {
            if self.landmark.is_some() && !self.recognises(&record) {
                // The actor has to hear of it.
                return true;
            }
            if record.offset.0 >= self.wanted {
                let gap = record.offset.0 - self.end();
                self.wanted = record.offset.next().0;
                self.last = Some(Landmark::from(&record));
                self.bytes += record.size();
                self.queue.push_back(Delivered { record: Arc::new(record), gap, at });
            }
        }
        self.queue.len() > before
    }

    /// Whether this may be the log that the partition was read from. A landmark that is compacted away proves nothing.
    fn recognises(&mut self, record: &Record) -> bool {
        let Some(last) = self.landmark.take_if(|last| last.offset <= record.offset) else { return true };
        if last.offset == record.offset && last.timestamp_ms != record.timestamp_ms {
            self.mismatched(another_log(last, record.timestamp_ms), Some(last));
            return false;
        }
        true
    }

    /// Nothing more is taken, for this reason; if the log is another, because it does not hold `landmark`.
    pub(super) fn mismatched(&mut self, cause: Cause, landmark: Option<Landmark>) {
        self.needs_seek = true;
        self.mismatch = Some((cause, landmark));
    }

    /// The next offset wanted from Kafka.
    pub(super) fn wanted(&self) -> i64 {
        self.wanted
    }

    /// Why nothing is taken, if the log is to blame.
    pub(super) fn mismatch(&self) -> Option<(Cause, Option<Landmark>)> {
        self.mismatch.clone()
    }

    /// How many more records and bytes may come; `None` when none may, or none is to be taken yet.
    pub(super) fn room(&self, records: usize, bytes: usize) -> Option<(usize, usize)> {
        let ready = self.position.is_some() && !self.needs_seek;
        let (records, bytes) = (records.saturating_sub(self.queue.len()), bytes.saturating_sub(self.bytes));
        (ready && records > 0 && bytes > 0).then_some((records, bytes))
    }

    pub(super) fn position(&self) -> Option<NextOffset> {
        self.position
    }

    pub(super) fn seek_target(&self) -> Option<i64> {
        (self.position.is_some() && self.needs_seek && self.mismatch.is_none()).then(|| self.start())
    }

    pub(super) fn sought(&mut self, offset: i64) {
        if self.start() == offset {
            self.needs_seek = false;
        }
    }

    /// Nothing is taken before Kafka was sought, and shows the last record again.
    pub(super) fn gone_astray(&mut self) {
        self.needs_seek = true;
        self.landmark = self.last;
    }

    /// Where reading begins: with the landmark, as long as it was not seen.
    fn start(&self) -> i64 {
        self.landmark.map_or(self.wanted, |last| last.offset.0.min(self.wanted))
    }

    /// Nothing that was delivered counts any more.
    pub(super) fn forget(&mut self, quarantine: &Quarantine) {
        (self.verified, self.finished) = (None, None);
        self.queue.clear();
        quarantine.forget();
        self.bytes = 0;
        self.needs_seek = true;
    }

    /// The partition is at `next`. What is held below is finished; if the partition was moved otherwise than by what the
    /// window holds, Kafka has to be sought, and what it has there compared with `last`.
    pub(super) fn claimed(&mut self, next: NextOffset, last: Option<Landmark>, quarantine: &Quarantine) {
        let moved = self.position.is_some_and(|position| next < position) || next.0 > self.wanted;
        if moved || self.mismatch.is_some() {
            self.forget(quarantine);
        }
        if self.queue.is_empty() && self.needs_seek {
            self.wanted = next.0;
        }
        self.mismatch = None;
        if self.needs_seek {
            (self.landmark, self.last) = (last, last);
        }
        if self.verified.is_none() {
            (self.verified, self.finished) = (last, last);
        }
        self.put_back();
        self.advance(next, quarantine);
    }

    /// A batch is committed: everything below `next` is finished.
    pub(super) fn finish(&mut self, next: NextOffset, quarantine: &Quarantine) {
        self.commits += 1;
        quarantine.committed(&self.parked_in_flight);
        self.put_back();
        self.advance(next, quarantine);
    }

    pub(super) fn commits(&self) -> u64 {
        self.commits
    }

    fn advance(&mut self, next: NextOffset, quarantine: &Quarantine) {
        let mut last = None;
        while self.queue.front().is_some_and(|delivered| delivered.record.offset.0 < next.0) {
            if let Some(done) = self.queue.pop_front() {
                self.bytes -= done.record.size();
                last = Some(Landmark::from(&*done.record));
            }
        }
        quarantine.passed(next);
        self.finished = last.or(self.finished);
        self.verified = self.verified.or(last);
        if let Some(front) = self.queue.front_mut() {
            front.gap = front.gap.min(front.record.offset.0 - next.0);
        }
        self.position = Some(next);
    }

    /// Everything below is delivered, or finished.
    fn end(&self) -> i64 {
        let last = self.queue.back().map(|delivered| delivered.record.offset.next());
        last.or(self.position).map_or(self.wanted, |end| end.0)
    }

    /// Kafka delivers nothing more below `offset`.
    pub(super) fn read_to(&mut self, offset: i64) {
        if self.position.is_some() && !self.needs_seek {
            self.wanted = self.wanted.max(offset);
        }
    }

    /// Where the partition will be past the offsets behind its last record, if that is finished and there are some.
    pub(super) fn trailing_gap(&self) -> Option<NextOffset> {
        let idle = self.queue.is_empty() && !self.needs_seek;
        let position = self.position.filter(|_| idle)?;
        (self.wanted > position.0).then_some(NextOffset(self.wanted))
    }

    /// A record that the log is known to have held.
    pub(super) fn verified(&self) -> Option<Landmark> {
        self.verified.filter(|_| self.mismatch.is_none())
    }

    /// It still does: the newest that was finished is to be seen next.
    pub(super) fn stands(&mut self, landmark: Landmark) {
        if self.verified == Some(landmark) {
            self.verified = self.finished;
        }
    }

    /// Up to `max` records or bytes (at least one record) from the front, which stay; fewer where some run apart.
    pub(super) fn take(&mut self, max: usize, max_bytes: usize, quarantine: &Quarantine) -> Vec<Item> {
        let below = |offset| self.queue.iter().take_while(|one| one.record.offset.0 < offset).count();
        let most = self.front().map_or(0, |front| quarantine.most(front, below));
        let diagnose = quarantine.diagnose_window();
        let mut bytes = 0;
        let batch: Vec<_> = self
            .queue
            .iter()
            .take(max.min(most))
            .take_while(|delivered| {
                let first = bytes == 0;
                bytes += delivered.record.size();
                first || bytes <= max_bytes
            })
            .map(|delivered| Item {
                record: delivered.record.clone(),
                gap: delivered.gap,
                parked: None,
                diagnosis: diagnose(delivered.record.offset),
            })
            .collect();
        self.in_flight = batch.len();
        batch
    }

    /// The first record's offset.
    pub(super) fn front(&self) -> Option<Offset> {
        self.queue.front().map(|delivered| delivered.record.offset)
    }

    /// Nothing is in flight any more; the records stay.
    pub(super) fn put_back(&mut self) {
        self.in_flight = 0;
        self.parked_in_flight.clear();
    }

    /// The batch was cut: only its first `records` are still in flight. Those that waited come first.
    pub(super) fn keep_in_flight(&mut self, records: usize) {
        self.parked_in_flight.truncate(records);
        self.in_flight = self.in_flight.min(records - self.parked_in_flight.len());
    }

    /// The one record in flight, if it is one.
    pub(super) fn alone(&self) -> Option<RecordAt> {
        match (&self.parked_in_flight[..], self.in_flight) {
            ([id], 0) => Some(RecordAt::Parked(*id)),
            ([], 1) => self.front().map(RecordAt::Offset),
            _ => None,
        }
    }

    /// One of the records in flight is guilty: half of them run next.
    fn halve(&mut self, quarantine: &Quarantine) {
        let last = self.in_flight.checked_sub(1).and_then(|at| self.queue.get(at));
        let below = last.map(|last| last.record.offset.next().0);
        quarantine.halve(below, std::mem::take(&mut self.parked_in_flight));
        self.in_flight = 0;
    }

    /// Values of the records in flight were refused: half of them run next, and one that was alone is dead. Where it is no
    /// record's fault, they stay in flight.
    pub(super) fn values_refused(&mut self, cause: &Cause, quarantine: &Quarantine) -> Refusal {
        if self.in_flight() == 0 {
            return Refusal::OfNone;
        }
        let refusal = quarantine.values_refused(self.front(), self.alone(), cause);
        if refusal != Refusal::OfNone {
            self.halve(quarantine);
        }
        refusal
    }

    /// The actor died. Puts it down to the records in flight, of which half run next. Returns how many there were.
    pub(super) fn actor_died(&mut self, panic: &str, quarantine: &Quarantine) -> usize {
        let offsets: Vec<i64> =
            self.queue.iter().take(self.in_flight).map(|one| one.record.offset.0).collect();
        let records = self.in_flight();
        quarantine.actor_died(&offsets, &self.parked_in_flight, panic);
        if records > 0 {
            self.halve(quarantine);
        }
        records
    }

    /// The actor works on these rows of `parked`.
    pub(super) fn take_parked(&mut self, ids: Vec<i64>) {
        self.parked_in_flight = ids;
    }

    pub(super) fn len(&self) -> usize {
        self.queue.len()
    }

    pub(super) fn in_flight(&self) -> usize {
        self.in_flight + self.parked_in_flight.len()
    }

    /// How long ago the oldest unfinished record was written; where Kafka does not say when, how long ago it was delivered.
    pub(super) fn oldest(&self, now: DateTime<Utc>) -> Duration {
        let age = |front: &Delivered| front.record.age(now).unwrap_or_else(|| front.at.elapsed());
        self.queue.front().map_or(Duration::ZERO, age)
    }
}

/// Why a log that holds another record than `last` in its place is not the one that was read.
pub(super) fn another_log(last: Landmark, timestamp_ms: i64) -> Cause {
    Cause::new(
        "another-log",
        format!(
            "the record at offset {} was written at {timestamp_ms} ms and the one handled there at {} ms: the topic was made \
             anew or Kafka lost data; reset the partition once it is known what is missing (docs/operations.md)",
            last.offset, last.timestamp_ms
        ),
    )
}
