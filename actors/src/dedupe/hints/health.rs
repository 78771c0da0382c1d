//! How Redis is: what it answers to reads says nothing of how it takes writes.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// Failures in a row after which Redis is left alone for [`REST`]: an outage costs one time-out a second, not one a batch.
pub(super) const FAILURES: u32 = 3;
const REST: Duration = Duration::from_secs(1);
/// Of an error's text.
const WORDS: usize = 200;

/// What Redis is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// It is asked.
    Reads,
    /// It is told.
    Writes,
}

/// Reads and writes, judged apart.
#[derive(Debug, Default)]
pub(super) struct Health(Mutex<[State; 2]>);

#[derive(Debug, Default)]
struct State {
    failures: u32,
    rest_until: Option<Instant>,
    /// What was said of it, until it is well again.
    problem: Option<String>,
}

impl Health {
    /// Whether it is left alone for now.
    pub(super) fn rests(&self, side: Side) -> bool {
        self.0.lock()[side as usize].rest_until.is_some_and(|until| Instant::now() < until)
    }

    /// What is wrong with it.
    pub(super) fn problem(&self, side: Side) -> Option<String> {
        self.0.lock()[side as usize].problem.clone()
    }

    /// It did what it was asked for. Says so once nothing is wrong any more.
    pub(super) fn well(&self, side: Side) {
        let mut sides = self.0.lock();
        let was_ill = std::mem::take(&mut sides[side as usize]).problem.is_some();
        if was_ill && sides.iter().all(|state| state.problem.is_none()) {
            tracing::info!("Redis answers again");
        }
    }

    /// It did not. Says so the first time that something is wrong.
    pub(super) fn ill(&self, side: Side, problem: String) {
        let mut sides = self.0.lock();
        let was_well = sides.iter().all(|state| state.problem.is_none());
        let state = &mut sides[side as usize];
        state.failures = state.failures.saturating_add(1);
        if state.failures < FAILURES {
            return;
        }
        state.rest_until = Some(Instant::now() + REST);
        if was_well {
            tracing::warn!(problem, "Redis is left alone for now; the inbox answers for it");
        }
        state.problem = Some(problem);
    }
}

/// The beginning of what an error says: that of a pipeline repeats itself for each of its commands.
pub(super) fn words(error: &redis::RedisError) -> String {
    let text = match error.clone().into_server_errors() {
        Some(errors) if !errors.is_empty() => {
            let error = &errors[0].1;
            format!("{} {}", error.code(), error.details().unwrap_or_default())
        }
        _ => match error.code() {
            Some(code) => format!("{code} {}", error.detail().unwrap_or_default()),
            None => error.to_string(),
        },
    };
    text.chars().take(WORDS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_does_not_mend_what_cannot_be_written() {
        let health = Health::default();
        for _ in 0..FAILURES {
            assert!(!health.rests(Side::Writes));
            health.ill(Side::Writes, "OOM".into());
            health.well(Side::Reads);
        }
        assert!(health.rests(Side::Writes) && !health.rests(Side::Reads));
        assert_eq!(health.problem(Side::Writes), Some("OOM".into()));
        health.well(Side::Writes);
        assert_eq!((health.rests(Side::Writes), health.problem(Side::Writes)), (false, None));
    }
}
