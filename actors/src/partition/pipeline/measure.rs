//! What a committed batch adds to the metrics.

use metrics::counter;

use super::context::Context;
use crate::{
    handler::Handler,
    metrics::{DEDUPE_HITS, RECORDS, RETRIES},
    partition::batch::{Outcome, Slot},
};

/// Counts outcomes, retries and duplicates: once a batch, not once a record.
pub(super) fn count<H: Handler>(context: &Context<'_, H>, slots: &[Slot<H>]) {
    let group = &context.shared.settings.group;
    let mut outcomes = [("applied", 0u64), ("duplicate", 0), ("ignored", 0), ("parked", 0), ("dead", 0)];
    let mut retries = 0;
    for slot in slots {
        let at = match slot.outcome {
            Outcome::Applied => 0,
            Outcome::Duplicate | Outcome::DeadAlready => 1,
            Outcome::Ignored => 2,
            Outcome::Behind | Outcome::Again(..) if slot.item.parked.is_none() => 3,
            Outcome::Dead(..) => 4,
            _ => continue,
        };
        outcomes[at].1 += 1;
    }
    for slot in slots.iter().filter(|slot| slot.item.attempts() > 0 && slot.outcome != Outcome::Behind) {
        retries += u64::from(slot.decoded.is_some());
    }
    for (outcome, records) in outcomes.into_iter().filter(|(_, records)| *records > 0) {
        counter!(RECORDS, "group" => group.clone(), "topic" => context.source.topic.to_string(), "outcome" => outcome)
            .increment(records);
    }
    if retries > 0 {
        counter!(RETRIES, "group" => group.clone()).increment(retries);
    }
    let duplicates =
        slots.iter().filter(|slot| matches!(slot.outcome, Outcome::Duplicate | Outcome::DeadAlready));
    let (redis, inbox): (Vec<_>, Vec<_>) = duplicates.partition(|slot| slot.hinted);
    for (source, hits) in [("redis", redis.len()), ("inbox", inbox.len())] {
        if hits > 0 {
            counter!(DEDUPE_HITS, "group" => group.clone(), "source" => source)
                .increment(u64::try_from(hits).unwrap_or(u64::MAX));
        }
    }
}
