//! What is known of a lane's rows: which the table holds, which the producer was given, which Kafka has.
//!
//! It belongs to the lane and outlives the lane's actor, so that an actor that dies makes nobody publish twice.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use chrono::{DateTime, Utc};
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::{
    refusal::{Fault, Refusal, Refused},
    rows::{Listed, Span},
};
use crate::{Backlog, Cause};

/// Rows written and not yet deleted, in order. Shared by whoever owns the lane and the producer's report thread.
#[derive(Debug)]
pub(crate) struct Track {
    /// Rows to one topic keep their order whatever is refused.
    ordered: bool,
    known: Mutex<Known>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Known {
    rows: VecDeque<KnownRow>,
    /// The last number that any row had.
    highest: i64,
    /// The claim under which this is known.
    epoch: i64,
    /// The producer in use.
    generation: u64,
    /// Counts how often everything was forgotten: a report of a row sent before speaks of another one with its number.
    term: u64,
    /// Rows that the producer has and Kafka has not answered for.
    in_flight: usize,
    /// Rows to be handed to the producer.
    waiting: usize,
    /// Rows that Kafka has and the table still holds.
    acknowledged: usize,
    topics: Vec<Arc<str>>,
    refusals: Vec<Refusal>,
}

#[derive(Debug)]
struct KnownRow {
    seq: i64,
    topic: Arc<str>,
    /// When it was written.
    at: Instant,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Waiting,
    /// The producer of this generation has it.
    Sent(u64),
    Acknowledged,
}

/// One sending of a row, as its report names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sending {
    seq: i64,
    generation: u64,
    term: u64,
}

impl Sending {
    /// Whether it is meant for the producer of `generation`.
    pub(crate) fn is_of(self, generation: u64) -> bool {
        self.generation == generation
    }
}

impl Known {
    fn at(&self, seq: i64) -> Option<usize> {
        self.rows.binary_search_by_key(&seq, |row| row.seq).ok()
    }

    fn topic(&mut self, name: &str) -> Arc<str> {
        if let Some(topic) = self.topics.iter().find(|topic| &***topic == name) {
            return topic.clone();
        }
        let topic: Arc<str> = name.into();
        self.topics.push(topic.clone());
        topic
    }

    fn set(&mut self, at: usize, state: State) {
        let before = std::mem::replace(&mut self.rows[at].state, state);
        *self.count(before) -= 1;
        *self.count(state) += 1;
    }

    /// How many rows are in this state.
    fn count(&mut self, state: State) -> &mut usize {
        match state {
            State::Waiting => &mut self.waiting,
            State::Sent(_) => &mut self.in_flight,
            State::Acknowledged => &mut self.acknowledged,
        }
    }

    /// Whether a waiting row may be sent now; without a time, whether it waits for no refusal.
    fn may_go(&self, row: &KnownRow, now: Option<Instant>) -> bool {
        row.state == State::Waiting
            && self.refusals.iter().all(|refusal| {
                if refusal.seq == row.seq {
                    now.is_some_and(|now| refusal.not_before <= now)
                } else {
                    !(refusal.holds_topic && *refusal.topic == *row.topic)
                }
            })
    }

    fn refuse(&mut self, at: usize, refused: Refused, ordered: bool) {
        let (now, seq, topic) = (Instant::now(), self.rows[at].seq, self.rows[at].topic.clone());
        self.set(at, State::Waiting);
        let holds_topic = ordered || refused.fault == Fault::Topic;
        let same =
            |one: &&mut Refusal| one.seq == seq || (holds_topic && one.holds_topic && *one.topic == *topic);
        match self.refusals.iter_mut().find(same) {
            None => self.refusals.push(Refusal::new(seq, topic, refused, holds_topic, now)),
            Some(one) if one.seq == seq => one.again(refused, now),
            // The first of the topic's rows is the one that is tried.
            Some(one) => one.seq = one.seq.min(seq),
        }
    }

    fn forget(&mut self) {
        self.rows.clear();
        self.refusals.clear();
        self.term += 1;
        (self.in_flight, self.waiting, self.acknowledged) = (0, 0, 0);
    }
}

impl Track {
    /// A track that knows of no row. With `ordered`, rows to one topic keep their order also when one of them is refused.
    pub(crate) fn new(ordered: bool) -> Self {
        Self { ordered, known: Mutex::default(), changed: Notify::new() }
    }

    /// The lane was claimed under `epoch`, and `highest` is the last number given to a row. What Kafka has acknowledged stays
    /// known, unless somebody else may have written meanwhile, or the database has lost what it had: then every row that
    /// is still there is sent again.
    pub(crate) fn claimed(&self, epoch: i64, highest: i64) {
        let mut known = self.known.lock();
        let alone = epoch == known.epoch + 1 || highest == known.highest;
        if highest < known.highest || !alone {
            known.forget();
        }
        (known.epoch, known.highest) = (epoch, highest);
    }

    /// The producer in use is the one of `generation`: what an earlier one had and Kafka has not is to be sent again.
    pub(crate) fn uses(&self, generation: u64) {
        let mut known = self.known.lock();
        if known.generation == generation {
            return;
        }
        known.generation = generation;
        // In the order of the rows again, from the first one on.
        known.refusals.clear();
        for at in 0..known.rows.len() {
            if let State::Sent(_) = known.rows[at].state {
                known.set(at, State::Waiting);
            }
        }
    }

    /// Rows were committed. Those that are known already are left as they are.
    pub(crate) fn written<'a>(&self, rows: impl Iterator<Item = (i64, &'a str)>) {
        let (mut known, now) = (self.known.lock(), Instant::now());
        for (seq, topic) in rows {
            if known.rows.back().is_none_or(|last| last.seq < seq) {
                let topic = known.topic(topic);
                known.rows.push_back(KnownRow { seq, topic, at: now, state: State::Waiting });
                known.waiting += 1;
                known.highest = known.highest.max(seq);
            }
        }
    }

    /// These are all the rows that the table has.
    pub(crate) fn listed(&self, listed: Vec<Listed>) {
        let (mut known, now) = (self.known.lock(), Instant::now());
        let mut before = std::mem::take(&mut known.rows).into_iter().peekable();
        let (mut rows, mut gone) = (VecDeque::with_capacity(listed.len()), Vec::new());
        for Listed { seq, topic, age } in listed {
            while let Some(row) = before.next_if(|row| row.seq < seq) {
                gone.push(row);
            }
            if let Some(row) = before.next_if(|row| row.seq == seq) {
                rows.push_back(row);
                continue;
            }
            let (topic, at) = (known.topic(&topic), now.checked_sub(age).unwrap_or(now));
            rows.push_back(KnownRow { seq, topic, at, state: State::Waiting });
            known.waiting += 1;
            known.highest = known.highest.max(seq);
        }
        gone.extend(before);
        known.rows = rows;
        // Somebody else has published and deleted them.
        for row in gone {
            *known.count(row.state) -= 1;
            known.refusals.retain(|refusal| refusal.seq != row.seq);
        }
        drop(known);
        self.changed.notify_waiters();
    }

    /// Rows that were to be read from the table and are not there.
    pub(crate) fn gone(&self, seqs: &[i64]) {
        let mut known = self.known.lock();
        for seq in seqs {
            if let Some(at) = known.at(*seq)
                && let Some(row) = known.rows.remove(at)
            {
                *known.count(row.state) -= 1;
                known.refusals.retain(|refusal| refusal.seq != *seq);
            }
        }
    }

    /// Up to `limit` rows that are to be handed to the producer now, in order.
    pub(crate) fn due(&self, limit: usize) -> Vec<i64> {
        let (known, now) = (self.known.lock(), Instant::now());
        if known.waiting == 0 {
            return Vec::new();
        }
        known.rows.iter().filter(|row| known.may_go(row, Some(now))).map(|row| row.seq).take(limit).collect()
    }

    /// Whether there is such a row before `seq`.
    pub(crate) fn is_due_before(&self, seq: i64) -> bool {
        let (known, now) = (self.known.lock(), Instant::now());
        known.waiting > 0
            && known.rows.iter().take_while(|row| row.seq < seq).any(|row| known.may_go(row, Some(now)))
    }

    /// Whether rows wait for something else than for a refusal to end.
    pub(crate) fn is_unfinished(&self) -> bool {
        let known = self.known.lock();
        known.in_flight > 0 || known.rows.iter().any(|row| known.may_go(row, None))
    }

    /// The row is about to be handed to the producer; noted first, since its report may come before the producer returns.
    /// `None` when it is not to be.
    pub(crate) fn sending(&self, seq: i64) -> Option<Sending> {
        let mut known = self.known.lock();
        let at = known.at(seq)?;
        if !known.may_go(&known.rows[at], Some(Instant::now())) {
            return None;
        }
        let generation = known.generation;
        known.set(at, State::Sent(generation));
        Some(Sending { seq, generation, term: known.term })
    }

    /// The producer had no room for it, or is another one by now.
    pub(crate) fn unsent(&self, sending: Sending) {
        self.settle(sending, |known, at, _| known.set(at, State::Waiting));
    }

    /// The producer, or Kafka, does not take it.
    pub(crate) fn refused(&self, sending: Sending, refused: Refused) {
        self.settle(sending, |known, at, ordered| known.refuse(at, refused, ordered));
    }

    /// Kafka has it, whichever producer it came from.
    pub(crate) fn acknowledged(&self, sending: Sending) {
        let mut known = self.known.lock();
        let Some(at) = known.at(sending.seq).filter(|_| known.term == sending.term) else { return };
        if known.rows[at].state == State::Acknowledged {
            return;
        }
        known.set(at, State::Acknowledged);
        if !known.refusals.is_empty() {
            known.refusals.retain(|refusal| refusal.seq != sending.seq);
        }
        if known.in_flight == 0 {
            drop(known);
            self.changed.notify_waiters();
        }
    }

    /// What a sending came to, if it is still the row's last.
    fn settle(&self, sending: Sending, change: impl FnOnce(&mut Known, usize, bool)) {
        let mut known = self.known.lock();
        let Some(at) = known.at(sending.seq).filter(|_| known.term == sending.term) else { return };
        if known.rows[at].state == State::Sent(sending.generation) {
            change(&mut known, at, self.ordered);
            drop(known);
            self.changed.notify_waiters();
        }
    }

    /// The first rows that Kafka has and the table still holds. What is refused, or waits for what is, does not keep those
    /// behind it.
    pub(crate) fn deletable(&self) -> Option<Span> {
        let known = self.known.lock();
        if known.acknowledged == 0 {
            return None;
        }
        let mut run = known.rows.iter().skip_while(|row| row.state == State::Waiting);
        let first = run.next().filter(|row| row.state == State::Acknowledged)?.seq;
        let last = run.take_while(|row| row.state == State::Acknowledged).last().map_or(first, |row| row.seq);
        Some(Span { first, last })
    }

    /// These rows are deleted.
    pub(crate) fn deleted(&self, rows: Span) {
        let mut known = self.known.lock();
        let from = known.rows.partition_point(|row| row.seq < rows.first);
        let to = known.rows.partition_point(|row| row.seq <= rows.last);
        for row in known.rows.drain(from..to).collect::<Vec<_>>() {
            *known.count(row.state) -= 1;
        }
    }

    /// The last number that any row had.
    pub(crate) fn highest(&self) -> i64 {
        self.known.lock().highest
    }

    /// What the table holds and Kafka has not acknowledged.
    pub(crate) fn backlog(&self) -> Backlog {
        let known = self.known.lock();
        let rows = known.in_flight + known.waiting;
        let oldest = known.rows.iter().find(|row| rows > 0 && row.state != State::Acknowledged);
        Backlog { rows, oldest: oldest.map_or(Duration::ZERO, |row| row.at.elapsed()) }
    }

    /// The first row that is refused, and how many wait for it or are refused as well.
    pub(crate) fn refusal(&self) -> Option<(Refusal, usize)> {
        let known = self.known.lock();
        let first = known.refusals.iter().min_by_key(|refusal| refusal.seq)?;
        Some((first.clone(), known.waiting))
    }

    /// The same in words, and since when. `lane` is the lane's name.
    pub(crate) fn refused_as(&self, lane: &str) -> Option<(Cause, DateTime<Utc>)> {
        let (refusal, waiting) = self.refusal()?;
        Some((refusal.cause(lane, waiting), refusal.since))
    }

    /// Rows that are refused for their size, and may be tried again.
    pub(crate) fn oversized(&self) -> Vec<i64> {
        let (known, now) = (self.known.lock(), Instant::now());
        let large = known
            .refusals
            .iter()
            .filter(|refusal| refusal.refused.fault == Fault::Size && refusal.not_before <= now);
        large.map(|refusal| refusal.seq).collect()
    }

    /// The row is smaller now: it may go at once.
    pub(crate) fn rewritten(&self, seq: i64) {
        self.known.lock().refusals.retain(|refusal| refusal.seq != seq);
    }

    /// Waits until Kafka has answered for everything that it was given and that is not refused; false when `limit` passed
    /// first.
    pub(crate) async fn settled(&self, limit: Duration) -> bool {
        let wait = async {
            loop {
                let mut changed = std::pin::pin!(self.changed.notified());
                changed.as_mut().enable();
                if self.known.lock().in_flight == 0 {
                    return;
                }
                changed.await;
            }
        };
        tokio::time::timeout(limit, wait).await.is_ok()
    }
}

#[cfg(test)]
mod tests;
