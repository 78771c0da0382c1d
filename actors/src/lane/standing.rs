//! How a lane stands: what its actor says of itself, and what keeps Kafka from giving it records.

use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use dead_letters::TopicPartition;

use crate::{Backlog, Cause, Condition, LaneState};

/// The code of a partition that cannot be read.
pub(super) const UNREADABLE: &str = "unreadable";
/// A partition that cannot be read and says nothing new for this long can be read again.
const OBSTACLE_OVER: Duration = Duration::from_secs(10);
/// How soon a partition that cannot be read is tried again: at first, and once it has lasted.
const TRY_AGAIN: Duration = Duration::from_millis(200);
const TRY_RARELY: Duration = Duration::from_secs(2);

/// What is known of a lane beside its window.
#[derive(Debug)]
pub(super) struct Standing {
    state: LaneState,
    reason: Option<Cause>,
    since: DateTime<Utc>,
    obstacle: Option<Obstacle>,
    pub(super) epoch: i64,
    pub(super) parked: usize,
    pub(super) outbox: Backlog,
    /// When the actor said so.
    pub(super) counted: Instant,
    pub(super) restarts: u32,
}

/// What keeps records from coming.
#[derive(Debug)]
struct Obstacle {
    cause: Cause,
    since: DateTime<Utc>,
    began: Instant,
    /// When it was last met.
    met: Instant,
}

impl Default for Standing {
    fn default() -> Self {
        let (state, since) = (LaneState::Claiming, Utc::now());
        Self {
            state,
            reason: None,
            since,
            obstacle: None,
            epoch: 0,
            parked: 0,
            outbox: Backlog::default(),
            counted: Instant::now(),
            restarts: 0,
        }
    }
}

impl Standing {
    /// The actor, or its supervisor, says how the partition is.
    pub(super) fn set_state(&mut self, state: LaneState, reason: Option<&Cause>) {
        let code = |cause: &Cause| cause.code.clone();
        if self.state != state || self.reason.as_ref().map(code) != reason.map(code) {
            self.since = Utc::now();
        }
        self.state = state;
        self.reason = reason.cloned();
    }

    /// As the actor said.
    pub(super) fn state(&self) -> LaneState {
        self.state
    }

    /// Something keeps records from coming. Returns for how long it has.
    pub(super) fn met(&mut self, cause: Cause) -> Duration {
        let now = Instant::now();
        match &mut self.obstacle {
            Some(obstacle) if obstacle.cause.code == cause.code => {
                (obstacle.cause, obstacle.met) = (cause, now);
                now.duration_since(obstacle.began)
            }
            obstacle => {
                *obstacle = Some(Obstacle { cause, since: Utc::now(), began: now, met: now });
                Duration::ZERO
            }
        }
    }

    /// That is over, if it was called `code`.
    pub(super) fn passed(&mut self, code: &str) {
        self.obstacle.take_if(|obstacle| obstacle.cause.code == code);
    }

    /// What was called `code` and was not met again for a while is over.
    pub(super) fn forget_old(&mut self, code: &str) {
        self.obstacle
            .take_if(|obstacle| obstacle.cause.code == code && obstacle.met.elapsed() > OBSTACLE_OVER);
    }

    /// Whether it is too soon to try again.
    pub(super) fn rests(&self) -> bool {
        self.obstacle.as_ref().is_some_and(|obstacle| {
            let lasting = obstacle.began.elapsed() > TRY_RARELY;
            obstacle.met.elapsed() < if lasting { TRY_RARELY } else { TRY_AGAIN }
        })
    }

    /// How the partition is, why and since when.
    pub(super) fn shown(&self) -> (LaneState, Option<&Cause>, DateTime<Utc>) {
        match &self.obstacle {
            Some(obstacle) if self.state.trouble().is_none() => {
                (LaneState::Degraded, Some(&obstacle.cause), obstacle.since)
            }
            _ => (self.state, self.reason.as_ref(), self.since),
        }
    }

    /// What keeps the partition from its work, if something does.
    pub(super) fn condition(&self, source: &TopicPartition) -> Option<Condition> {
        let (state, reason, since) = self.shown();
        let state = state.trouble()?;
        let (code, message) = match reason {
            Some(cause) => (cause.code.clone(), cause.message.clone()),
            None => (state.into(), "no reason given".to_owned()),
        };
        let (topic, partition) = (Some(source.topic.to_string()), Some(source.partition));
        Some(Condition { topic, partition, state, code, message, since })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_keeps_records_away_shows_while_the_actor_has_nothing_to_say() {
        let (mut standing, source) = (Standing::default(), TopicPartition::new("t", 0));
        standing.set_state(LaneState::Running, None);
        assert_eq!(standing.condition(&source), None);
        assert_eq!(standing.met(Cause::new("unreadable", "at 1")), Duration::ZERO);
        let since = standing.condition(&source).expect("shown").since;
        standing.met(Cause::new("unreadable", "at 2"));
        let shown = standing.condition(&source).expect("shown");
        assert_eq!((shown.since, shown.message.as_str(), shown.state), (since, "at 2", "degraded"));
        assert!(standing.rests());
        standing.set_state(LaneState::Halted, Some(&Cause::new("another-log", "why")));
        assert_eq!(standing.condition(&source).expect("shown").state, "halted");
        standing.set_state(LaneState::Running, None);
        standing.passed("another");
        standing.forget_old("unreadable");
        assert!(standing.condition(&source).is_some());
        standing.passed("unreadable");
        assert_eq!(standing.condition(&source), None);
    }
}
