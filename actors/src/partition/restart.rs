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
    /// Deaths in a row that can be put down to records: one batch, and then one record as often as it may.
    blamable: u32,
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
    /// A policy with its whole budget; a record may kill `crash_limit` actors.
    pub(crate) fn new(settings: RestartSettings, crash_limit: u32) -> Self {
        Self { settings, spent: VecDeque::new(), attempt: 0, blamable: crash_limit.saturating_add(1) }
    }

    /// An actor died at `now`. `progressed`: something was committed since the last death. `counted`: the death is counted
    /// against records; as many as it takes to bury one cost nothing of the budget, and neither does any with progress.
    pub(crate) fn died(&mut self, now: Instant, progressed: bool, counted: bool) -> Restart {
        self.attempt = if progressed { 1 } else { self.attempt.saturating_add(1) };
        if !progressed && (!counted || self.attempt > self.blamable) {
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
    use proptest::prelude::*;

    use super::*;

    fn policy() -> RestartPolicy {
        let settings = RestartSettings {
            budget: 2,
            period: Duration::from_secs(10),
            initial: Duration::from_millis(100),
            max: Duration::from_millis(350),
        };
        RestartPolicy::new(settings, 3)
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
    fn progress_and_what_it_takes_to_bury_a_record_cost_nothing() {
        let (mut policy, now) = (policy(), Instant::now());
        for _ in 0..20 {
            assert_eq!(policy.died(now, true, false), Restart::After(Duration::from_millis(100), 1));
            for attempt in 2..=4 {
                let Restart::After(delay, counted) = policy.died(now, false, true) else {
                    panic!("no more than it takes")
                };
                assert_eq!(counted, attempt);
                assert!(delay <= Duration::from_millis(350));
            }
        }
        // Dying on, though every record in flight should have been buried by now: a bug of ours.
        assert!(matches!(policy.died(now, false, true), Restart::After(..)));
        assert!(matches!(policy.died(now, false, true), Restart::After(..)));
        assert_eq!(policy.died(now, false, true), Restart::Halt);
    }

    proptest! {
        /// However actors die: delays stay within their bounds, the attempt starts over with progress, and a halt is said
        /// only when the budget of deaths that cost something is spent within the period.
        #[test]
        fn a_halt_has_its_reasons(
            deaths in prop::collection::vec((0u64..4_000, any::<bool>(), any::<bool>()), 1..60),
        ) {
            let (mut policy, mut now) = (policy(), Instant::now());
            let (mut spent, mut attempt) = (Vec::<Instant>::new(), 0);
            for (later, progressed, counted) in deaths {
                now += Duration::from_millis(later);
                attempt = if progressed { 1 } else { attempt + 1 };
                let costs = !progressed && (!counted || attempt > 4);
                spent.retain(|at| now.duration_since(*at) <= Duration::from_secs(10));
                match policy.died(now, progressed, counted) {
                    Restart::Halt => {
                        prop_assert!(costs && spent.len() >= 2);
                        break;
                    }
                    Restart::After(delay, number) => {
                        prop_assert!(!costs || spent.len() < 2);
                        prop_assert_eq!(number, attempt);
                        prop_assert!((100..=350).contains(&delay.as_millis()));
                        if costs {
                            spent.push(now);
                        }
                    }
                }
            }
        }
    }
}
