//! How long to wait. The one file that knows the `backoff` crate.

use std::time::Duration;

use backoff::{ExponentialBackoff, backoff::Backoff};

use crate::settings::RetryPolicy;

/// The delay after failed attempt number `attempt` (from 1), with jitter.
pub(crate) fn delay(policy: &RetryPolicy, attempt: u32) -> Duration {
    let exponent = i32::try_from(attempt.saturating_sub(1)).unwrap_or(i32::MAX);
    let grown = policy.initial.as_secs_f64() * policy.multiplier.max(1.0).powi(exponent);
    spread(policy, Duration::try_from_secs_f64(grown).unwrap_or(policy.max))
}

/// The delay of an event that waits for `age` already and whose attempts are not counted: a quarter of that, so that it is
/// not found out much too late that the wait is over, with jitter.
pub(crate) fn patience(policy: &RetryPolicy, age: Duration) -> Duration {
    spread(policy, (age / 4).max(policy.initial))
}

/// `wait`, with jitter, and no more than the policy allows.
pub(crate) fn spread(policy: &RetryPolicy, delay: Duration) -> Duration {
    let jitter = policy.jitter.clamp(0.0, 1.0);
    let base = delay.min(policy.max.div_f64(1.0 + jitter));
    let mut backoff = ExponentialBackoff {
        current_interval: base,
        initial_interval: base,
        max_interval: policy.max,
        multiplier: policy.multiplier,
        randomization_factor: jitter,
        // The deadline counts from the first failure, which is in the database: whoever parks the record checks it.
        max_elapsed_time: None,
        ..ExponentialBackoff::default()
    };
    backoff.next_backoff().unwrap_or(base)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Whatever the policy: a delay is the exact one, spread by no more than the jitter, and never above the limit.
        #[test]
        fn delays_grow_to_the_limit_and_stay_within_their_jitter(
            initial_ms in 1u64..10_000,
            max_ms in 1u64..100_000,
            multiplier in 1.0f64..5.0,
            jitter in 0.0f64..1.0,
            attempt in prop_oneof![1u32..50, Just(u32::MAX)],
        ) {
            let (initial, max) = (Duration::from_millis(initial_ms), Duration::from_millis(max_ms));
            let policy = RetryPolicy { initial, max, multiplier, jitter, ..RetryPolicy::default() };
            let exponent = i32::try_from(attempt - 1).unwrap_or(i32::MAX);
            let limit = max.as_secs_f64() / (1.0 + jitter);
            let exact = (initial.as_secs_f64() * multiplier.powi(exponent)).min(limit);
            let delay = delay(&policy, attempt).as_secs_f64();
            let (low, high) = (exact * (1.0 - jitter), exact * (1.0 + jitter));
            prop_assert!((low - 0.001..=high + 0.001).contains(&delay), "{delay} not in {low}..{high}");
        }
    }
}
