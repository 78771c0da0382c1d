//! The bounded window of one partition: records delivered by Kafka and not yet finished.
//!
//! A lane outlives its actor: a restarted one finds the window as it was, with the crash counted against the records its
//! predecessor had in hand.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use parking_lot::{Condvar, Mutex};

use crate::{
    Cause,
    lease::Watermarks,
    record::{NextOffset, Offset, Record, TopicPartition},
    status::{LaneState, PartitionStatus},
};

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
    pub(crate) watermarks: Watermarks,
    window: Mutex<Window>,
    claimed: Condvar,
    scheduled: AtomicBool,
    closing: AtomicBool,
    waker: Mutex<Option<Waker>>,
    status: Mutex<Status>,
}

struct Waker(Box<dyn Fn() + Send + Sync>);

impl std::fmt::Debug for Waker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Waker")
    }
}

#[derive(Debug, Default)]
struct Window {
    queue: VecDeque<Delivered>,
    bytes: usize,
    /// Records at the front that the actor works on.
    in_hand: usize,
    /// Parked rows that the actor works on.
    parked_in_hand: Vec<i64>,
    /// Where the partition is; `None` until the first claim.
    position: Option<NextOffset>,
    /// The next offset wanted from Kafka.
    wanted: i64,
    /// Kafka delivers from somewhere else until the poll thread has sought `wanted`.
    needs_seek: bool,
    /// Actors killed, by offset; only of records in the window.
    crashes: HashMap<i64, u32>,
    /// Below this offset records run one at a time.
    solo_until: i64,
    /// Parked rows whose crash is not counted in the table yet.
    crashed_parked: Vec<i64>,
    /// Parked rows to be run one at a time.
    solo_parked: HashSet<i64>,
    last_panic: Option<String>,
}

#[derive(Debug)]
struct Delivered {
    record: Arc<Record>,
    at: Instant,
}

#[derive(Debug)]
struct Status {
    state: LaneState,
    reason: Option<String>,
    epoch: i64,
    parked: usize,
    outbox: usize,
    restarts: u32,
}

impl Lane {
    pub(crate) fn new(source: TopicPartition, kind: LaneKind, watermarks: Watermarks) -> Self {
        Self {
            source,
            kind,
            watermarks,
            window: Mutex::new(Window { needs_seek: true, ..Window::default() }),
            claimed: Condvar::new(),
            scheduled: AtomicBool::new(false),
            closing: AtomicBool::new(false),
            waker: Mutex::new(None),
            status: Mutex::new(Status {
                state: LaneState::Claiming,
                reason: None,
                epoch: 0,
                parked: 0,
                outbox: 0,
                restarts: 0,
            }),
        }
    }

    // The poll thread's side.

    /// Adds what Kafka delivered. Records below the wanted offset, and all before a pending seek, are let go: they come
    /// again or were finished before.
    pub(crate) fn offer(&self, records: impl Iterator<Item = Record>) {
        let mut added = false;
        {
            let mut window = self.window.lock();
            if window.position.is_none() || window.needs_seek {
                return;
            }
            let at = Instant::now();
            for record in records.into_iter() {
                if record.offset.0 >= window.wanted {
                    window.wanted = record.offset.next().0;
                    window.bytes += record.size();
                    window.queue.push_back(Delivered { record: Arc::new(record), at });
                    added = true;
                }
            }
        }
        if added {
            self.wake();
        }
    }

    /// Whether the window holds more than may be.
    pub(crate) fn over(&self, records: usize, bytes: usize) -> bool {
        let window = self.window.lock();
        window.queue.len() >= records || window.bytes >= bytes
    }

    /// Waits for the first claim, at most until `deadline`; the offset to start from.
    pub(crate) fn wait_claimed(&self, deadline: Instant) -> Option<NextOffset> {
        let mut window = self.window.lock();
        while window.position.is_none() {
            if self.claimed.wait_until(&mut window, deadline).timed_out() {
                break;
            }
        }
        window.position
    }

    /// The offset Kafka has to be sought to, if it has to.
    pub(crate) fn seek_target(&self) -> Option<i64> {
        let window = self.window.lock();
        (window.position.is_some() && window.needs_seek).then_some(window.wanted)
    }

    /// Kafka now delivers from `offset`.
    pub(crate) fn sought(&self, offset: i64) {
        let mut window = self.window.lock();
        if window.wanted == offset {
            window.needs_seek = false;
        }
    }

    /// Where the partition is, for Kafka's lag monitors.
    pub(crate) fn position(&self) -> Option<NextOffset> {
        self.window.lock().position
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

    /// Who is to be woken when there is work.
    pub(crate) fn set_waker(&self, waker: impl Fn() + Send + Sync + 'static) {
        *self.waker.lock() = Some(Waker(Box::new(waker)));
        self.scheduled.store(false, Ordering::Release);
        self.wake();
    }

    /// Wakes the actor unless it is about to look anyway.
    pub(crate) fn wake(&self) {
        if !self.scheduled.swap(true, Ordering::AcqRel)
            && let Some(waker) = &*self.waker.lock()
        {
            (waker.0)();
        }
    }

    /// The actor is about to look: what comes from now on wakes it again.
    pub(crate) fn looking(&self) {
        self.scheduled.store(false, Ordering::Release);
    }

    /// The partition is claimed, and is at `next`. What the window holds below is finished; if the partition went back,
    /// Kafka has to be sought.
    pub(crate) fn claimed(&self, epoch: i64, next: NextOffset) {
        let mut window = self.window.lock();
        let went_back = window.position.is_some_and(|position| next < position);
        if went_back {
            window.queue.clear();
            window.bytes = 0;
            window.needs_seek = true;
            window.wanted = next.0;
        }
        window.in_hand = 0;
        window.finish(next);
        window.wanted = window.wanted.max(next.0);
        drop(window);
        self.status.lock().epoch = epoch;
        self.claimed.notify_all();
    }

    /// Takes up to `max` records or bytes (at least one record) from the front, without removing them.
    pub(crate) fn take(&self, max: usize, max_bytes: usize) -> Vec<Arc<Record>> {
        let mut window = self.window.lock();
        let solo = window.queue.front().is_some_and(|first| first.record.offset.0 < window.solo_until);
        let mut bytes = 0;
        let batch: Vec<_> = window
            .queue
            .iter()
            .take(if solo { 1 } else { max })
            .take_while(|delivered| {
                let first = bytes == 0;
                bytes += delivered.record.size();
                first || bytes <= max_bytes
            })
            .map(|delivered| delivered.record.clone())
            .collect();
        window.in_hand = batch.len();
        batch
    }

    /// Actors that this record has killed.
    pub(crate) fn crashes(&self, offset: Offset) -> u32 {
        let window = self.window.lock();
        window.crashes.get(&offset.0).copied().unwrap_or(0)
    }

    /// The last panic's message.
    pub(crate) fn last_panic(&self) -> Option<String> {
        self.window.lock().last_panic.clone()
    }

    /// Nothing is in hand any more; the records stay.
    pub(crate) fn put_back(&self) {
        let mut window = self.window.lock();
        window.in_hand = 0;
        window.parked_in_hand.clear();
    }

    /// The batch in hand is to be redone one record at a time.
    pub(crate) fn go_solo(&self) {
        let mut window = self.window.lock();
        if let Some(last) = window.in_hand.checked_sub(1).and_then(|at| window.queue.get(at)) {
            window.solo_until = last.record.offset.next().0;
        }
        let parked = std::mem::take(&mut window.parked_in_hand);
        window.solo_parked.extend(parked);
        window.in_hand = 0;
    }

    /// Everything below `next` is finished.
    pub(crate) fn finish(&self, next: NextOffset) {
        let mut window = self.window.lock();
        window.in_hand = 0;
        window.parked_in_hand.clear();
        window.finish(next);
    }

    /// The actor works on these parked rows.
    pub(crate) fn take_parked(&self, ids: &[i64]) {
        let mut window = self.window.lock();
        window.parked_in_hand = ids.to_vec();
        for id in ids {
            window.solo_parked.remove(id);
        }
    }

    /// Whether parked rows are to be run one at a time.
    pub(crate) fn parked_solo(&self) -> bool {
        !self.window.lock().solo_parked.is_empty()
    }

    /// Only these rows wait; others are not to be run alone any more.
    pub(crate) fn keep_solo(&self, waiting: &HashSet<i64>) {
        self.window.lock().solo_parked.retain(|id| waiting.contains(id));
    }

    /// Parked rows that killed an actor and whose crash is not counted in the table yet.
    pub(crate) fn crashed_parked(&self) -> Vec<i64> {
        self.window.lock().crashed_parked.clone()
    }

    /// Their crash is counted.
    pub(crate) fn crash_counted(&self, ids: &[i64]) {
        self.window.lock().crashed_parked.retain(|id| !ids.contains(id));
    }

    /// Says how the partition is.
    pub(crate) fn set_state(&self, state: LaneState, reason: Option<&Cause>) {
        let mut status = self.status.lock();
        status.state = state;
        status.reason = reason.map(ToString::to_string);
    }

    /// How the partition is.
    pub(crate) fn state(&self) -> LaneState {
        self.status.lock().state
    }

    /// Says what waits beside the window.
    pub(crate) fn set_counts(&self, parked: usize, outbox: usize) {
        let mut status = self.status.lock();
        status.parked = parked;
        status.outbox = outbox;
    }

    // The supervisor's side.

    /// The actor died. Counts the crash against the records in hand, which run one at a time from now on. Returns how many
    /// there were.
    pub(crate) fn actor_died(&self, panic: &str) -> usize {
        let mut window = self.window.lock();
        let Window { queue, in_hand, crashes, .. } = &mut *window;
        let mut last = None;
        for delivered in queue.iter().take(*in_hand) {
            *crashes.entry(delivered.record.offset.0).or_default() += 1;
            last = Some(delivered.record.offset.next().0);
        }
        let records = window.in_hand + window.parked_in_hand.len();
        if let Some(last) = last {
            window.solo_until = window.solo_until.max(last);
        }
        let parked = std::mem::take(&mut window.parked_in_hand);
        window.crashed_parked.extend(&parked);
        window.solo_parked.extend(parked);
        window.in_hand = 0;
        window.last_panic = Some(panic.to_owned());
        self.status.lock().restarts += 1;
        records
    }

    /// What `/partitions` shows.
    pub(crate) fn snapshot(&self) -> PartitionStatus {
        let window = self.window.lock();
        let status = self.status.lock();
        let oldest = window.queue.front().map_or(Duration::ZERO, |delivered| delivered.at.elapsed());
        PartitionStatus {
            topic: self.source.topic.to_string(),
            partition: self.source.partition,
            state: status.state,
            reason: status.reason.clone(),
            epoch: status.epoch,
            next_offset: window.position.map_or(0, |next| next.0),
            window: window.queue.len(),
            in_hand: window.in_hand,
            parked: status.parked,
            outbox: status.outbox,
            oldest_ms: u64::try_from(oldest.as_millis()).unwrap_or(u64::MAX),
            restarts: status.restarts,
        }
    }
}

impl Window {
    fn finish(&mut self, next: NextOffset) {
        while self.queue.front().is_some_and(|delivered| delivered.record.offset.0 < next.0) {
            if let Some(done) = self.queue.pop_front() {
                self.bytes -= done.record.size();
                if !self.crashes.is_empty() {
                    self.crashes.remove(&done.record.offset.0);
                }
            }
        }
        self.position = Some(next);
    }
}

#[cfg(test)]
#[path = "lane_tests.rs"]
mod tests;
