//! How long to wait. The one file that knows the `backoff` crate.

use std::time::Duration;

use backoff::{ExponentialBackoff, backoff::Backoff};

use crate::settings::RetryPolicy;

/// The delay after failed attempt number `attempt` (from 1), with jitter.
pub(crate) fn delay(policy: &RetryPolicy, attempt: u32) -> Duration {
    let exponent = i32::try_from(attempt.saturating_sub(1)).unwrap_or(i32::MAX);
    let grown = policy.initial.as_secs_f64() * policy.multiplier.max(1.0).powi(exponent);
    let base = Duration::try_from_secs_f64(grown).unwrap_or(policy.max).min(policy.max);
    let mut backoff = ExponentialBackoff {
        current_interval: base,
        initial_interval: base,
        max_interval: policy.max,
        multiplier: policy.multiplier,
        randomization_factor: policy.jitter.clamp(0.0, 1.0),
        // The deadline counts from the first failure, which is in the database: whoever parks the record checks it.
        max_elapsed_time: None,
        ..ExponentialBackoff::default()
    };
    backoff.next_backoff().unwrap_or(base)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_to_the_limit_and_stay_within_their_jitter() {
        let policy = RetryPolicy::default();
        for attempt in [1, 2, 5, 9, 40, u32::MAX] {
            let exact = (policy.initial.as_secs_f64()
                * 2f64.powi(i32::try_from(attempt.min(60)).expect("small") - 1))
            .min(policy.max.as_secs_f64());
            for _ in 0..50 {
                let delay = delay(&policy, attempt).as_secs_f64();
                let (low, high) = (exact * (1.0 - policy.jitter), exact * (1.0 + policy.jitter));
                assert!(
                    (low - 0.001..=high + 0.001).contains(&delay),
                    "attempt {attempt}: {delay} not in {low}..{high}"
                );
            }
        }
    }
}
