//! Which traces are told.

use actors::trace::TraceParent;
use clap::ValueEnum;

/// Which traces are told, by OpenTelemetry's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Sampler {
    /// All.
    #[value(name = "always_on")]
    AlwaysOn,
    /// None.
    #[value(name = "always_off")]
    AlwaysOff,
    /// A part of them, by their ids: the same ones in every process.
    #[value(name = "traceidratio")]
    Ratio,
    /// As whoever began it says; all of those that begin here.
    #[value(name = "parentbased_always_on")]
    ParentAlwaysOn,
    /// As whoever began it says; none of those that begin here.
    #[value(name = "parentbased_always_off")]
    ParentAlwaysOff,
    /// As whoever began it says; a part of those that begin here.
    #[value(name = "parentbased_traceidratio")]
    ParentRatio,
}

impl Sampler {
    pub(super) fn samples(self, ratio: f64, trace_id: u128, parent: Option<TraceParent>) -> bool {
        let within = || is_within(ratio, trace_id);
        match (self, parent) {
            (Self::AlwaysOn, _) | (Self::ParentAlwaysOn, None) => true,
            (Self::AlwaysOff, _) | (Self::ParentAlwaysOff, None) => false,
            (Self::Ratio, _) | (Self::ParentRatio, None) => within(),
            (_, Some(parent)) => parent.is_sampled(),
        }
    }
}

/// By the lower half of the id, whose first bit is left out, as OpenTelemetry's own libraries do.
fn is_within(ratio: f64, trace_id: u128) -> bool {
    if ratio >= 1.0 {
        return true;
    }
    #[expect(clippy::cast_possible_truncation, reason = "its lower half is meant")]
    let low = trace_id as u64 >> 1;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "from 0 to 1, times 2^63")]
    let bound = (ratio * 2f64.powi(63)) as u64;
    low < bound
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Correlation;

    #[test]
    fn whoever_began_a_trace_says_whether_it_is_told() {
        let parent = |flags| Some(TraceParent { trace_id: 7, span_id: 1, flags });
        for (sampler, alone, kept, dropped) in [
            (Sampler::AlwaysOn, true, true, true),
            (Sampler::AlwaysOff, false, false, false),
            (Sampler::Ratio, false, false, false),
            (Sampler::ParentAlwaysOn, true, true, false),
            (Sampler::ParentAlwaysOff, false, true, false),
            (Sampler::ParentRatio, false, true, false),
        ] {
            let samples = |parent| sampler.samples(0.0, 7, parent);
            assert_eq!(
                (samples(None), samples(parent(1)), samples(parent(0))),
                (alone, kept, dropped),
                "{sampler:?}"
            );
        }
    }

    #[test]
    fn a_part_is_about_that_part() {
        let made =
            || TraceParent::parse(&Correlation::of_id(String::new()).traceparent).expect("valid").trace_id;
        let told = |ratio| (0..10_000).filter(|_| is_within(ratio, made())).count();
        assert_eq!((told(0.0), told(1.0)), (0, 10_000));
        assert!((2_200..2_800).contains(&told(0.25)));
    }
}
