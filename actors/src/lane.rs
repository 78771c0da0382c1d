//! The bounded window of one partition: records delivered by Kafka and not yet finished.
//!
//! A lane outlives its actor: a restarted one finds the window as it was, with the crash counted against the records its
//! predecessor had in flight.

mod bell;
mod item;
mod quarantine;
mod shown;
mod standing;
mod wake;
mod window;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
    time::{Duration, Instant},
};

use chrono::{DateTime, Utc};
use dead_letters::{NextOffset, Offset, TopicPartition};
use parking_lot::{Condvar, Mutex};
use tracing::Span;

pub(crate) use self::{
    bell::Bell,
    item::{Item, own_failure},
    quarantine::{CrashLimits, CrashedRow, PROCESS_DEATH, Quarantine, Refusal},
};
use self::{standing::Standing, wake::Wake, window::Window};
use crate::{Backlog, Cause, lease::Landmark, outbox::Tracks, record::Record, retry::ParkedRecord};

/// What a lane's records are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LaneKind {
    /// Events for the handler.
    Source,
    /// Records on their way back into the lane they first came from.
    Requeue,
}

/// A partition's window and what its actor has said of itself.
#[derive(Debug)]
pub(crate) struct Lane {
    pub(crate) source: TopicPartition,
    pub(crate) kind: LaneKind,
    /// What its actor does is logged in it, with topic and partition.
    pub(crate) span: Span,
    /// What Kafka has of its outbox.
    pub(crate) outbox: Tracks,
    /// Which of its records run apart, and which are dead for what they ended.
    pub(crate) quarantine: Quarantine,
    window: Mutex<Window>,
    claimed: Condvar,
    closing: AtomicBool,
    /// By an operator.
    paused: AtomicBool,
    /// Records were put back into `parked`.
    chains_changed: AtomicBool,
    /// Rows of `parked` that are due, and when: perhaps somebody else has changed them.
    noticed: Mutex<Vec<(i64, DateTime<Utc>)>>,
    /// One past the last offset Kafka has, as far as is known.
    log_end: AtomicI64,
    /// The furthest end that was heard of since the log may have become another: what a consumer says of a partition that comes back
    /// to it, or goes on, is the end it saw when it last fetched.
    furthest_end: AtomicI64,
    wake: Wake,
    /// Wakes the poll thread, which could not deliver.
    bell: Arc<Bell>,
    waited_for: AtomicBool,
    /// It is full, and its partition is paused.
    backpressured: AtomicBool,
    status: Mutex<Standing>,
    /// Something kept records from coming.
    hindered: AtomicBool,
    /// The last offset that transactions let be read, and since when it has been the same.
    stable: Mutex<Option<(i64, Instant)>>,
}

impl Lane {
    pub(crate) fn new(source: TopicPartition, kind: LaneKind, limits: CrashLimits, bell: Arc<Bell>) -> Self {
        // As high as a span can be: whatever line a filter lets through says which partition it is of.
        let (topic, partition) = (&*source.topic, source.partition);
        let span = tracing::error_span!(parent: None, "partition", topic, partition);
        Self {
            source,
            kind,
            span,
            outbox: Tracks::default(),
            quarantine: Quarantine::new(limits),
            window: Mutex::new(Window::new()),
            claimed: Condvar::new(),
            closing: AtomicBool::new(false),
            paused: AtomicBool::new(false),
            chains_changed: AtomicBool::new(false),
            noticed: Mutex::default(),
            log_end: AtomicI64::new(0),
            furthest_end: AtomicI64::new(0),
            wake: Wake::default(),
            bell,
            waited_for: AtomicBool::new(false),
            backpressured: AtomicBool::new(false),
            status: Mutex::default(),
            hindered: AtomicBool::new(false),
            stable: Mutex::new(None),
        }
    }

    // The poll thread's side.

    /// Adds what Kafka delivered.
    pub(crate) fn offer(&self, records: impl Iterator<Item = Record>) {
        let added = self.window.lock().offer(records);
        if added {
            if self.hindered.swap(false, Ordering::Relaxed) {
                self.status.lock().passed(standing::UNREADABLE);
            }
            self.wake();
        }
    }

    /// How many more records and bytes may come, where the window may hold so many; `None` when none may. Then the bell is
    /// rung once that has changed.
    pub(crate) fn room(&self, records: usize, bytes: usize) -> Option<(usize, usize)> {
        let window = self.window.lock();
        let room = window.room(records, bytes);
        // Under the window's lock: what makes room comes before this or sees it.
        self.waited_for.store(room.is_none(), Ordering::Relaxed);
        room
    }

    /// Waits until it is decided whether the partition is claimed, at most until `deadline`; the offset to start from.
    pub(crate) fn wait_claimed(&self, deadline: Instant) -> Option<i64> {
        let mut window = self.window.lock();
        // A partition that is halted may stay so for ever: the others go on.
        while window.position().is_none() && !self.is_halted() {
            if self.claimed.wait_until(&mut window, deadline).timed_out() {
                break;
            }
        }
        window.seek_target()
    }

    /// What Kafka delivers is not what comes next: it has to be sought.
    pub(crate) fn gone_astray(&self) {
        self.window.lock().gone_astray();
    }

    /// The offset Kafka has to be sought to, if it has to.
    pub(crate) fn seek_target(&self) -> Option<i64> {
        self.window.lock().seek_target()
    }

    /// Kafka now delivers from `offset`.
    pub(crate) fn sought(&self, offset: i64) {
        self.window.lock().sought(offset);
    }

    /// Kafka has delivered everything below `offset` that there is: what holds no record at the end can be passed.
    pub(crate) fn read_to(&self, offset: i64) {
        let mut window = self.window.lock();
        window.read_to(offset);
        if window.trailing_gap().is_some() {
            drop(window);
            self.wake();
        }
    }

    /// Where the partition will be once the offsets behind its last record are passed, if there are some.
    pub(crate) fn trailing_gap(&self) -> Option<NextOffset> {
        self.window.lock().trailing_gap()
    }

    /// Whether it is full, and its partition paused.
    pub(crate) fn is_backpressured(&self) -> bool {
        self.backpressured.load(Ordering::Relaxed)
    }

    /// Where the partition is, for Kafka's lag monitors.
    pub(crate) fn position(&self) -> Option<NextOffset> {
        self.window.lock().position()
    }

    /// Its partition is paused until there is room, or goes on.
    pub(crate) fn set_backpressured(&self, backpressured: bool) {
        self.backpressured.store(backpressured, Ordering::Relaxed);
    }

    /// No further batch is to be taken.
    pub(crate) fn close(&self) {
        self.closing.store(true, Ordering::Release);
    }

    // The actor's side.

    /// True when the partition leaves.
    pub(crate) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Acquire)
    }

    /// An operator stops it, or lets it go on.
    pub(crate) fn set_paused(&self, paused: bool) {
        self.paused.store(paused, Ordering::Release);
    }

    /// True when an operator has stopped it.
    pub(crate) fn is_paused(&self) -> bool {
        self.paused.load(Ordering::Acquire)
    }

    /// Who is to be woken when there is work.
    pub(crate) fn set_waker(&self, waker: impl Fn() + Send + Sync + 'static) {
        self.wake.set(waker);
    }

    /// Wakes the actor unless it is about to look anyway.
    pub(crate) fn wake(&self) {
        self.wake.wake();
    }

    /// The actor is about to look: what comes from now on wakes it again.
    pub(crate) fn looking(&self) {
        self.wake.looking();
    }

    /// The partition is claimed, and is at `next`. `last` was finished before that: if it is still there, reading begins
    /// with it, to see that this is the log it was read from.
    pub(crate) fn claimed(&self, epoch: i64, next: NextOffset, last: Option<Landmark>) {
        let mut window = self.window.lock();
        let known = std::mem::replace(&mut self.status.lock().epoch, epoch);
        if epoch != known + 1 {
            // Somebody else had it, or reset it, perhaps on another log.
            window.forget(&self.quarantine);
            // Of a lane that is claimed for the first time, the end was asked for this claim.
            if known != 0 {
                self.furthest_end.store(0, Ordering::Relaxed);
            }
        }
        window.claimed(next, last, &self.quarantine);
        drop(window);
        self.claimed.notify_all();
        self.bell.ring();
    }

    /// Whether nobody works on it: it was never claimed, and is not to be.
    pub(crate) fn is_unknown(&self) -> bool {
        self.is_halted() && self.status.lock().epoch == 0 && self.position().is_none() && !self.wake.is_set()
    }

    /// Takes up to `max` records or bytes (at least one record) from the front, without removing them.
    pub(crate) fn take(&self, max: usize, max_bytes: usize) -> Vec<Item> {
        self.window.lock().take(max, max_bytes, &self.quarantine)
    }

    /// The first record's offset.
    pub(crate) fn front(&self) -> Option<Offset> {
        self.window.lock().front()
    }

    /// Nothing is in flight any more; the records stay.
    pub(crate) fn put_back(&self) {
        self.window.lock().put_back();
    }

    /// The batch was cut: only its first `records` are still in flight.
    pub(crate) fn keep_in_flight(&self, records: usize) {
        self.window.lock().keep_in_flight(records);
    }

    /// The log holds records up to `end`, as somebody else has seen.
    pub(crate) fn raise_log_end(&self, end: i64) {
        self.log_end.fetch_max(end, Ordering::Relaxed);
        self.furthest_end.fetch_max(end, Ordering::Relaxed);
    }

    /// Whether it has no record.
    pub(crate) fn is_empty(&self) -> bool {
        self.window.lock().len() == 0
    }

    /// How many records are in flight.
    pub(crate) fn in_flight(&self) -> usize {
        self.window.lock().in_flight()
    }

    /// These rows of `parked` are due then, which may be news.
    pub(crate) fn notice(&self, rows: Vec<(i64, DateTime<Utc>)>) {
        // All that is known of them, not what was known before.
        *self.noticed.lock() = rows;
        self.wake();
    }

    /// What was noticed since this was last asked.
    pub(crate) fn take_noticed(&self) -> Vec<(i64, DateTime<Utc>)> {
        std::mem::take(&mut *self.noticed.lock())
    }

    /// Records were put back into `parked`.
    pub(crate) fn chains_changed(&self) {
        self.chains_changed.store(true, Ordering::Release);
        self.wake();
    }

    /// Whether that was so since this was last asked.
    pub(crate) fn take_chains_changed(&self) -> bool {
        self.chains_changed.swap(false, Ordering::AcqRel)
    }

    /// Whether the record at `offset` is the window's first, or is still to be delivered.
    pub(crate) fn may_come(&self, offset: Offset) -> bool {
        let window = self.window.lock();
        let ahead = window.position().is_some_and(|position| position.0 <= offset.0);
        let first = |front: Offset| front <= offset;
        ahead && window.front().map_or(self.log_end.load(Ordering::Relaxed) > offset.0, first)
    }

    /// Whether nothing of it is lost to this process when it leaves: nothing waits for its turn, or nothing is taken anyway.
    pub(crate) fn may_leave(&self) -> bool {
        self.is_halted() || self.window.lock().len() == 0
    }

    /// Why this is not the log that the partition was read from, if it is not.
    pub(crate) fn log_mismatch(&self) -> Option<(Cause, Option<Landmark>)> {
        self.window.lock().mismatch()
    }

    /// Counts what was committed here.
    pub(crate) fn commits(&self) -> u64 {
        self.window.lock().commits()
    }

    /// Everything below `next` is finished.
    pub(crate) fn finish(&self, next: NextOffset) {
        let mut window = self.window.lock();
        window.finish(next, &self.quarantine);
        if self.waited_for.swap(false, Ordering::Relaxed) {
            self.bell.ring();
        }
    }

    /// Takes parked rows.
    pub(crate) fn take_parked(&self, rows: Vec<ParkedRecord>) -> Vec<Item> {
        self.window.lock().take_parked(rows.iter().map(|row| row.id).collect());
        rows.into_iter().map(|row| Item::waited(row, &self.quarantine)).collect()
    }

    /// Whether some of its records run apart: then it has to be known whose fault it is when an actor or a process dies.
    pub(crate) fn runs_apart(&self) -> bool {
        let window = self.window.lock();
        self.quarantine.runs_apart(window.position(), window.front())
    }

    /// Whether it is written first which records of the window are about to run.
    pub(crate) fn writes_intent(&self) -> bool {
        self.quarantine.writes_intent(self.position())
    }

    /// Values of the records in flight were refused.
    pub(crate) fn values_refused(&self, cause: &Cause) -> Refusal {
        self.window.lock().values_refused(cause, &self.quarantine)
    }

    /// Says what waits beside the window.
    pub(crate) fn set_counts(&self, parked: usize, outbox: Backlog) {
        let mut status = self.status.lock();
        status.parked = parked;
        status.outbox = outbox;
        status.counted = Instant::now();
    }

    // The supervisor's side.

    /// The actor died: that is put down to the records in flight. Returns how many there were.
    pub(crate) fn actor_died(&self, panic: &str) -> usize {
        self.status.lock().restarts += 1;
        self.window.lock().actor_died(panic, &self.quarantine)
    }

    /// How long ago the oldest unfinished record was written.
    pub(crate) fn oldest(&self) -> Duration {
        self.window.lock().oldest(Utc::now())
    }
}

#[cfg(test)]
mod tests;
