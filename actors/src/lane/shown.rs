//! What a lane shows of itself, and of what keeps Kafka from filling it.

use std::{
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use chrono::{DateTime, Utc};

use super::{Lane, standing::UNREADABLE, window::another_log};
use crate::{
    Backlog, Cause, Condition,
    lease::{Landmark, Progress},
    status::{LaneState, PartitionStatus},
};

/// Records that cannot be read for this long, since they themselves are at fault, halt the partition.
const DAMAGED: Duration = Duration::from_secs(60);
/// A transaction that is open for longer is worth a word.
const TRANSACTION: Duration = Duration::from_secs(10);
const OPEN_TRANSACTION: &str = "open-transaction";

impl Lane {
    /// Kafka has records up to, and not at, `offset`. A log that has become shorter is another, or has lost something: what
    /// comes next is compared with what was there.
    pub(crate) fn set_log_end(&self, offset: i64) {
        self.furthest_end.fetch_max(offset, Ordering::Relaxed);
        if self.log_end.swap(offset, Ordering::Relaxed) > offset {
            self.gone_astray();
        }
    }

    /// Transactions let records be read up to `stable`, and the log goes on to `end`.
    pub(crate) fn set_stable(&self, stable: i64, end: i64) {
        let waits = stable < end && self.position().is_some_and(|position| position.0 >= stable);
        let mut known = self.stable.lock();
        let since = match *known {
            Some((offset, since)) if waits && offset == stable => since,
            _ if waits => known.insert((stable, Instant::now())).1,
            _ => {
                if known.take().is_some() {
                    self.status.lock().passed(OPEN_TRANSACTION);
                }
                return;
            }
        };
        if since.elapsed() > TRANSACTION {
            let message = format!(
                "a producer's transaction has been open at offset {stable} for {} s; the {} offsets from there on are read \
                 once it ends: end that producer or its transaction (kafka-transactions.sh find-hanging)",
                since.elapsed().as_secs(),
                end - stable
            );
            self.status.lock().met(Cause::new(OPEN_TRANSACTION, message));
        }
    }

    /// Kafka cannot give what comes next. Where the record itself is at fault, the partition halts after a while.
    pub(crate) fn cannot_read(&self, error: &str, damaged: bool) {
        self.gone_astray();
        let at = self.window.lock().wanted();
        let cause = Cause::new(UNREADABLE, format!("unreadable at offset {at}: {error}"));
        self.hindered.store(true, Ordering::Relaxed);
        let lasted = self.status.lock().met(cause.clone());
        if damaged && lasted > DAMAGED {
            let words = format!(
                "{}; tried for {} s. Mend it (codec, damaged segment) and resume, or reset the partition past it \
                 (docs/operations.md)",
                cause.message,
                lasted.as_secs()
            );
            self.log_mismatched(Cause::new(UNREADABLE, words));
        }
    }

    /// Whether it is too soon to try again what could not be read.
    pub(crate) fn rests(&self) -> bool {
        self.hindered.load(Ordering::Relaxed) && self.status.lock().rests()
    }

    /// What was not met again for a while is over.
    pub(crate) fn look_again(&self) {
        if self.hindered.load(Ordering::Relaxed) {
            self.status.lock().forget_old(UNREADABLE);
        }
    }

    /// A record that the log is known to have held.
    pub(crate) fn landmark(&self) -> Option<Landmark> {
        self.window.lock().verified()
    }

    /// The log still holds it, or would, but for retention.
    pub(crate) fn landmark_stands(&self, landmark: Landmark) {
        self.window.lock().stands(landmark);
    }

    /// The log holds another record in its place, written at `timestamp_ms`.
    pub(crate) fn landmark_differs(&self, landmark: Landmark, timestamp_ms: i64) {
        self.other_log(landmark, another_log(landmark, timestamp_ms));
    }

    /// The log ends at `high`, before it.
    pub(crate) fn log_ends_before(&self, landmark: Landmark, high: i64) {
        let message = format!(
            "the record at offset {} was handled and the log ends at {high}: the topic was made anew or Kafka lost data; \
             reset the partition once it is known what is missing (docs/operations.md)",
            landmark.offset
        );
        self.other_log(landmark, Cause::new("past-log-end", message));
    }

    fn other_log(&self, landmark: Landmark, cause: Cause) {
        let mut window = self.window.lock();
        // It may have been reset since it was asked for.
        if window.verified() == Some(landmark) {
            window.mismatched(cause, Some(landmark));
            drop(window);
            self.wake();
        }
    }

    /// Nothing more is taken, and the actor halts and says why.
    pub(crate) fn log_mismatched(&self, cause: Cause) {
        self.window.lock().mismatched(cause, None);
        self.wake();
    }

    /// Says how the partition is.
    pub(crate) fn set_state(&self, state: LaneState, reason: Option<&Cause>) {
        self.status.lock().set_state(state, reason);
        if state == LaneState::Halted {
            // Under the lock that is waited with: who waits has seen it, or hears of it.
            drop(self.window.lock());
            self.claimed.notify_all();
        }
    }

    /// How the partition is.
    pub(crate) fn state(&self) -> LaneState {
        self.status.lock().state()
    }

    /// True when only an operator can let it go on.
    pub(crate) fn is_halted(&self) -> bool {
        self.state() == LaneState::Halted
    }

    /// What keeps the partition from its work, if something does.
    pub(crate) fn condition(&self) -> Option<Condition> {
        self.status.lock().condition(&self.source)
    }

    /// What waits beside the window: records in `parked`, and outbox rows, which go on growing older.
    pub(crate) fn waiting(&self) -> (usize, Backlog) {
        let status = self.status.lock();
        let Backlog { rows, oldest } = status.outbox;
        let oldest = if rows > 0 { oldest + status.counted.elapsed() } else { oldest };
        (status.parked, Backlog { rows, oldest })
    }

    /// How far the partition is, while nothing keeps it from its work and it is known where the log ends.
    pub(crate) fn progress(&self) -> Option<Progress> {
        let window = self.window.lock();
        let status = self.status.lock();
        let works = status.shown().0 == LaneState::Running && !self.is_paused();
        let (position, log_end) = (window.position()?.0, self.furthest_end.load(Ordering::Relaxed));
        let known = log_end > 0 || position == 0;
        // It is heard of late: a busy lane may have handled more than that.
        let log_end = log_end.max(position);
        (works && known).then_some(Progress { epoch: status.epoch, position, log_end })
    }

    /// What Kafka refuses of its outbox, whose lane is `name`.
    pub(crate) fn refused(&self, name: &str) -> Vec<Condition> {
        let condition = |(cause, since): (Cause, DateTime<Utc>)| Condition {
            topic: Some(self.source.topic.to_string()),
            partition: Some(self.source.partition),
            state: "degraded",
            code: cause.code,
            message: cause.message,
            since,
        };
        self.outbox.refusals(name).into_iter().map(condition).collect()
    }

    /// What `/partitions` shows.
    pub(crate) fn snapshot(&self) -> PartitionStatus {
        let window = self.window.lock();
        let status = self.status.lock();
        let (state, reason, since) = status.shown();
        let next_offset = window.position().map_or(0, |next| next.0);
        PartitionStatus {
            topic: self.source.topic.to_string(),
            partition: self.source.partition,
            state,
            reason: reason.map(ToString::to_string),
            since,
            epoch: status.epoch,
            next_offset,
            lag: (self.log_end.load(Ordering::Relaxed) - next_offset).max(0),
            window: window.len(),
            backpressured: self.backpressured.load(Ordering::Relaxed),
            in_flight: window.in_flight(),
            parked: status.parked,
            outbox: status.outbox.rows,
            oldest_ms: u64::try_from(window.oldest(Utc::now()).as_millis()).unwrap_or(u64::MAX),
            restarts: status.restarts,
        }
    }
}
