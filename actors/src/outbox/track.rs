//! What Kafka has acknowledged of a lane's rows.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::Span;
use crate::{Backlog, Cause};

/// Rows sent and not yet deleted, in order. Shared by the lane's owner and the producer's report thread.
#[derive(Debug, Default)]
pub(crate) struct Track {
    sent: Mutex<Sent>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Sent {
    rows: VecDeque<SentRow>,
    /// How many rows at the front are acknowledged.
    acknowledged: usize,
    /// The highest row of any acknowledged prefix.
    settled: i64,
    failure: Option<Cause>,
}

#[derive(Debug)]
struct SentRow {
    seq: i64,
    acknowledged: bool,
    at: Instant,
}

impl Sent {
    /// Moves the acknowledged prefix forward. True when it is all there is.
    fn settle(&mut self) -> bool {
        while self.rows.get(self.acknowledged).is_some_and(|row| row.acknowledged) {
            self.acknowledged += 1;
        }
        if let Some(last) = self.acknowledged.checked_sub(1) {
            self.settled = self.settled.max(self.rows[last].seq);
        }
        self.acknowledged == self.rows.len()
    }
}

impl Track {
    /// A row was handed to the producer. Sequence numbers rise.
    pub(crate) fn sent(&self, seq: i64) {
        let mut sent = self.sent.lock();
        if sent.rows.back().is_some_and(|row| row.seq >= seq) {
            // An acknowledgement of an earlier sending kept it here.
            return;
        }
        sent.rows.push_back(SentRow { seq, acknowledged: false, at: Instant::now() });
    }

    /// The row just noted was refused by the producer after all.
    pub(crate) fn unsent(&self, seq: i64) {
        let mut sent = self.sent.lock();
        if sent.rows.back().is_some_and(|row| row.seq == seq && !row.acknowledged) {
            sent.rows.pop_back();
        }
    }

    /// Kafka has it.
    pub(crate) fn acknowledged(&self, seq: i64) {
        let mut sent = self.sent.lock();
        let Ok(at) = sent.rows.binary_search_by_key(&seq, |row| row.seq) else { return };
        sent.rows[at].acknowledged = true;
        if sent.settle() {
            self.changed.notify_waiters();
        }
    }

    /// Kafka refused one; the owner reads the lane again.
    pub(crate) fn failed(&self, cause: Cause) {
        self.sent.lock().failure.get_or_insert(cause);
        self.changed.notify_waiters();
    }

    /// Takes the failure, if there was one, and forgets everything sent: the owner reads it again from the table.
    pub(crate) fn take_failure(&self) -> Option<Cause> {
        let failure = self.sent.lock().failure.take()?;
        self.forget();
        Some(failure)
    }

    /// Forgets everything sent and not deleted.
    pub(crate) fn forget(&self) {
        let mut sent = self.sent.lock();
        sent.failure = None;
        sent.rows.clear();
        sent.acknowledged = 0;
    }

    /// Everything up to this row has been acknowledged at some time.
    pub(crate) fn settled_to(&self) -> i64 {
        self.sent.lock().settled
    }

    /// The acknowledged prefix, which may be deleted. Nothing of the lane is in the table before it.
    pub(crate) fn prefix(&self) -> Option<Span> {
        let sent = self.sent.lock();
        let last = sent.acknowledged.checked_sub(1)?;
        Some(Span { first: sent.rows.front()?.seq, last: sent.rows[last].seq })
    }

    /// Rows up to `seq` are deleted.
    pub(crate) fn deleted(&self, seq: i64) {
        let mut sent = self.sent.lock();
        while sent.rows.front().is_some_and(|row| row.seq <= seq) {
            sent.rows.pop_front();
            sent.acknowledged = sent.acknowledged.saturating_sub(1);
        }
        // A row that was sent a second time may have gone before its second acknowledgement.
        if sent.settle() {
            self.changed.notify_waiters();
        }
    }

    /// What is sent and not acknowledged.
    pub(crate) fn backlog(&self) -> Backlog {
        let sent = self.sent.lock();
        let oldest = sent.rows.iter().skip(sent.acknowledged).find(|row| !row.acknowledged);
        Backlog {
            rows: sent.rows.len() - sent.acknowledged,
            oldest: oldest.map_or(Duration::ZERO, |row| row.at.elapsed()),
        }
    }

    /// Waits until everything sent is acknowledged; false when something failed or `limit` passed.
    pub(crate) async fn settled(&self, limit: Duration) -> bool {
        let wait = async {
            loop {
                let mut changed = std::pin::pin!(self.changed.notified());
                changed.as_mut().enable();
                {
                    let sent = self.sent.lock();
                    if sent.failure.is_some() {
                        return false;
                    }
                    if sent.acknowledged == sent.rows.len() {
                        return true;
                    }
                }
                changed.await;
            }
        };
        tokio::time::timeout(limit, wait).await.unwrap_or(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_unbroken_prefix_may_be_deleted() {
        let track = Track::default();
        for seq in 5..=8 {
            track.sent(seq);
        }
        track.acknowledged(6);
        track.acknowledged(8);
        assert_eq!(track.prefix(), None);
        assert_eq!(track.backlog().rows, 4);
        track.acknowledged(5);
        assert_eq!(track.prefix(), Some(Span { first: 5, last: 6 }));
        track.deleted(6);
        assert_eq!((track.prefix(), track.backlog().rows), (None, 2));
        track.acknowledged(5);
        track.acknowledged(7);
        assert_eq!((track.prefix(), track.backlog().rows), (Some(Span { first: 7, last: 8 }), 0));
    }

    #[test]
    fn a_failure_forgets_what_was_sent() {
        let track = Track::default();
        track.sent(1);
        track.failed(Cause::new("a", "first"));
        track.failed(Cause::new("b", "second"));
        assert_eq!(track.take_failure().map(|cause| cause.code), Some("a".into()));
        assert_eq!(track.backlog(), Backlog::default());
        assert_eq!(track.take_failure(), None);
    }

    #[test]
    fn deleting_past_an_unacknowledged_row_leaves_the_rest_in_order() {
        let track = Track::default();
        (1..=3).for_each(|seq| track.sent(seq));
        track.acknowledged(2);
        track.deleted(1);
        assert_eq!((track.prefix(), track.backlog().rows), (Some(Span { first: 2, last: 2 }), 1));
    }

    #[test]
    fn a_refused_row_leaves_no_trace() {
        let track = Track::default();
        track.sent(1);
        track.sent(2);
        track.unsent(2);
        track.acknowledged(1);
        assert_eq!((track.prefix(), track.backlog().rows), (Some(Span { first: 1, last: 1 }), 0));
    }
}
