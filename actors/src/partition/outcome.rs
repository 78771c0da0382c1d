//! What becomes of a batch that was committed, and of one that was not.

use std::time::{Duration, Instant};

use super::{
    pipeline::{BatchError, Committed, Waiting},
    work::{HELD_UP, Next, Place, Work},
};
use crate::{Cause, handler::Handler, retry::delay, status::LaneState};

/// A former owner that was fenced asks again no sooner.
const FENCED: Duration = Duration::from_secs(1);

impl<H: Handler> Work<H> {
    pub(super) async fn committed(&mut self, committed: Committed) -> Next {
        self.claim = Some(committed.claim);
        self.lane.finish(committed.claim.next_offset);
        self.relay.publish(&committed.rows);
        if let Some(seq) = committed.deleted {
            self.relay.deleted(seq);
        }
        for change in committed.waiting {
            match change {
                Waiting::Added(key, id, due_at) => self.chains.push(key, id, due_at),
                Waiting::Delayed(key, id, due_at) => self.chains.delay(&key, id, due_at),
                Waiting::Removed(key, id) => self.chains.remove(&key, id),
            }
        }
        self.use_hints = true;
        self.blamed = None;
        self.last_write = Instant::now();
        self.recovered();
        self.shared.hints.done(&self.shared.settings.group, &committed.done).await;
        Next::Again
    }

    pub(super) fn failed(&mut self, error: BatchError, only: Option<Place>) -> Next {
        match error {
            BatchError::Unreachable(cause) => {
                self.lane.put_back();
                self.degrade(&cause)
            }
            BatchError::Unknown(cause) => {
                self.lane.put_back();
                self.claim = None;
                tracing::warn!(topic = &*self.lane.source.topic, partition = self.lane.source.partition, %cause,
                    "the batch's outcome is not known; claiming again to find out");
                let fenced = cause.code == "fenced";
                self.not_before = Some(Instant::now() + if fenced { FENCED } else { HELD_UP });
                Next::Sleep(Some(if fenced { FENCED } else { HELD_UP }))
            }
            BatchError::HintsLied => {
                self.lane.put_back();
                self.use_hints = false;
                Next::Again
            }
            BatchError::Data(cause) => {
                self.lane.go_solo();
                if let Some(place) = only {
                    self.blamed = Some((place, cause));
                    return Next::Again;
                }
                tracing::warn!(topic = &*self.lane.source.topic, partition = self.lane.source.partition, %cause,
                    "a record's values were refused; redoing the batch one by one");
                Next::Again
            }
            BatchError::Halt(cause) => self.halt(&cause),
        }
    }

    pub(super) fn degrade(&mut self, cause: &Cause) -> Next {
        self.failures = self.failures.saturating_add(1);
        let wait = delay(&self.shared.settings.unreachable, self.failures);
        if self.failures == 1 {
            tracing::warn!(topic = &*self.lane.source.topic, partition = self.lane.source.partition, %cause,
                "a server cannot be reached; the batch waits");
        }
        self.lane.set_state(LaneState::Degraded, Some(cause));
        self.not_before = Some(Instant::now() + wait);
        Next::Sleep(Some(wait))
    }

    pub(super) fn recovered(&mut self) {
        if self.failures > 0 {
            tracing::info!(
                topic = &*self.lane.source.topic,
                partition = self.lane.source.partition,
                attempts = self.failures,
                "working again"
            );
        }
        self.failures = 0;
        self.lane.set_state(LaneState::Running, None);
    }

    pub(super) fn halt(&mut self, cause: &Cause) -> Next {
        self.lane.put_back();
        self.lane.set_state(LaneState::Halted, Some(cause));
        tracing::error!(topic = &*self.lane.source.topic, partition = self.lane.source.partition, %cause,
            "the partition is halted; the others go on");
        Next::Sleep(None)
    }
}
