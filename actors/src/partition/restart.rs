//! When a dead actor is restarted, and when it is not.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use crate::settings::RestartSettings;

/// The restarts of one partition.
#[derive(Debug)]
pub(crate) struct RestartPolicy {
    settings: RestartSettings,
    /// Restarts that used the budget up, within the period.
    spent: VecDeque<Instant>,
    attempt: u32,
}

/// What becomes of a partition whose actor died.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Restart {
    /// Restart after this delay; the number counts restarts without progress in a row, from 1.
    After(Duration, u32),
    /// The budget is used up: halt.
    Halt,
}

impl RestartPolicy {
    /// A policy with its whole budget.
    pub(crate) fn new(settings: RestartSettings) -> Self {
        Self { settings, spent: VecDeque::new(), attempt: 0 }
    }

    /// An actor died at `now`. `progressed`: the partition moved forward since the last death. `counted`: the death is
    /// counted against records, which bounds it by itself. Either way it costs nothing of the budget.
    pub(crate) fn died(&mut self, now: Instant, progressed: bool, counted: bool) -> Restart {
        self.attempt = if progressed { 1 } else { self.attempt.saturating_add(1) };
        if !progressed && !counted {
            let period = self.settings.period;
            while self.spent.front().is_some_and(|at| now.duration_since(*at) > period) {
                self.spent.pop_front();
            }
            if self.spent.len() >= usize::try_from(self.settings.budget).unwrap_or(usize::MAX) {
                return Restart::Halt;
            }
            self.spent.push_back(now);
        }
        let doublings = self.attempt.saturating_sub(1).min(16);
        let delay = self.settings.initial.saturating_mul(1 << doublings).min(self.settings.max);
        Restart::After(delay, self.attempt)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy() -> RestartPolicy {
        RestartPolicy::new(RestartSettings {
            budget: 2,
            period: Duration::from_secs(10),
            initial: Duration::from_millis(100),
            max: Duration::from_millis(350),
        })
    }

    #[test]
    fn delays_double_up_to_the_limit_and_the_budget_ends() {
        let (mut policy, now) = (policy(), Instant::now());
        assert_eq!(policy.died(now, false, false), Restart::After(Duration::from_millis(100), 1));
        assert_eq!(policy.died(now, false, false), Restart::After(Duration::from_millis(200), 2));
        assert_eq!(policy.died(now, false, false), Restart::Halt);
        let later = now + Duration::from_secs(11);
        assert!(matches!(policy.died(later, false, false), Restart::After(..)), "the period is over");
    }

    #[test]
    fn progress_and_counted_crashes_cost_nothing() {
        let (mut policy, now) = (policy(), Instant::now());
        for _ in 0..20 {
            assert_eq!(policy.died(now, true, false), Restart::After(Duration::from_millis(100), 1));
        }
        for attempt in 2..20 {
            let Restart::After(delay, counted) = policy.died(now, false, true) else { panic!("never halts") };
            assert_eq!(counted, attempt);
            assert!(delay <= Duration::from_millis(350));
        }
    }
}
