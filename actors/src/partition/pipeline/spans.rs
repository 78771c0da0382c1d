//! The spans of a committed batch: one for each record that was applied, was known, failed or died. A record that was ignored has none,
//! nor has one that waits behind another, for a server that is gone or for a call that takes its time: of those no attempt was made.
//!
//! All spans of a record, in whichever attempt and generation, have the parent that its header names. Each links to the one before it.

use std::time::SystemTime;

use uuid::Uuid;

use super::{context::Context, letters};
use crate::{
    event::Emit,
    handler::Handler,
    partition::{
        batch::{Outcome, Slot, Tally},
        shared::Shared,
    },
    record::Record,
    trace::{self, Kind, Recorder, Span, TraceParent, Value},
};

/// Makes the span of the slot's event the parent of what the event causes, its death included, and of each the one that sends it.
pub(super) fn pass_on<H: Handler>(shared: &Shared<H>, slot: &Slot<H>, emits: &mut [Emit]) {
    if emits.is_empty() {
        return;
    }
    let parent = TraceParent::of(&slot.item.record.headers);
    let by = parent.and_then(|parent| Some((parent, span_id(shared, slot, parent.trace_id)?)));
    emits.iter_mut().for_each(|emit| trace::written(emit, by));
}

/// Tells of a batch that began at `started` and is committed.
pub(super) fn tell<H: Handler>(
    context: &Context<'_, H>,
    slots: &[Slot<H>],
    recorder: &dyn Recorder,
    started: SystemTime,
) {
    let ended = SystemTime::now();
    for slot in slots {
        let parent = TraceParent::of(&slot.item.record.headers);
        let trace_id = parent.map_or_else(|| of_its_own(&slot.item.record), |parent| parent.trace_id);
        if let Some(span_id) = span_id(context.shared, slot, trace_id)
            && recorder.samples(trace_id, parent)
        {
            let flags = parent.map_or(0, |parent| parent.flags);
            recorder.record(Span {
                name: format!("process {}", slot.item.record.source.topic),
                kind: Kind::Consumer,
                context: TraceParent { trace_id, span_id, flags }.sampled(true),
                parent: parent.map(|parent| parent.span_id),
                links: before(&context.shared.settings.group, slot, trace_id, parent.is_some())
                    .into_iter()
                    .collect(),
                started,
                ended,
                attributes: attributes(context.shared, slot),
                error: failure(&slot.outcome),
            });
        }
    }
}

/// A record that nobody has sent in a trace begins one: the same in each attempt.
fn of_its_own(record: &Record) -> u128 {
    // The lower half of a UUID begins with bits that are always the same, by which samplers choose.
    record.place_id().as_u128().rotate_left(64)
}

/// The id of a slot's span, if it has one.
fn span_id<H: Handler>(shared: &Shared<H>, slot: &Slot<H>, trace_id: u128) -> Option<u64> {
    let (group, generation) = (&*shared.settings.group, slot.item.generation());
    if let Outcome::Dead(..) = slot.outcome {
        return Some(trace::death(trace_id, letters::id(shared, &slot.item.record, generation)));
    }
    let event = &slot.decoded.as_ref()?.attempt;
    match &slot.outcome {
        Outcome::Applied => Some(trace::applied(trace_id, group, event.event_id)),
        Outcome::Duplicate | Outcome::DeadAlready => {
            Some(trace::seen(trace_id, group, slot.item.record.place_id(), generation))
        }
        Outcome::Again(_, _, Tally::Failed) => {
            Some(trace::attempt(trace_id, group, event.event_id, generation, slot.item.attempts() + 1))
        }
        Outcome::Again(_, _, Tally::NotYet) => {
            Some(trace::wait(trace_id, group, event.event_id, event.now.timestamp_millis()))
        }
        _ => None,
    }
}

/// The span that a slot's goes back to: the attempt before it, the death that it was put back from, or who applied it before.
fn before<H: Handler>(group: &str, slot: &Slot<H>, trace_id: u128, sent: bool) -> Option<u64> {
    let event_id = slot.decoded.as_ref().map(|event| event.attempt.event_id);
    if let (Outcome::Duplicate, Some(event_id)) = (&slot.outcome, event_id) {
        // A record that was sent twice is twice in one trace; without one, whoever applied the event began another.
        return sent.then(|| trace::applied(trace_id, group, event_id));
    }
    let waited = slot.item.parked?;
    match (waited.attempts, event_id) {
        (1.., Some(event_id)) => {
            Some(trace::attempt(trace_id, group, event_id, waited.generation, waited.attempts))
        }
        _ => waited.requeued_from.map(|letter| trace::death(trace_id, letter)),
    }
}

fn outcome(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Applied => "applied",
        Outcome::Duplicate | Outcome::DeadAlready => "duplicate",
        Outcome::Dead(..) => "dead",
        Outcome::Again(_, _, Tally::NotYet) => "waiting",
        Outcome::Again(..) | Outcome::Behind => "failed",
        Outcome::Ignored => "ignored",
        Outcome::Open => "open",
    }
}

/// The code alone: what else is said of a failure may hold words of a record.
fn failure(outcome: &Outcome) -> Option<String> {
    match outcome {
        Outcome::Dead(_, cause) | Outcome::Again(cause, _, Tally::Failed) => Some(cause.code.to_string()),
        _ => None,
    }
}

fn attributes<H: Handler>(shared: &Shared<H>, slot: &Slot<H>) -> Vec<(&'static str, Value)> {
    let record = &slot.item.record;
    let mut attributes = Vec::with_capacity(18);
    let mut tell = |name, value: Value| attributes.push((name, value));
    tell("messaging.system", "kafka".into());
    tell("messaging.operation.name", "process".into());
    tell("messaging.operation.type", "process".into());
    tell("messaging.destination.name", record.source.topic.to_string().into());
    tell("messaging.destination.partition.id", record.source.partition.to_string().into());
    tell("messaging.kafka.offset", record.offset.0.into());
    tell("messaging.consumer.group.name", shared.settings.group.clone().into());
    if let Some(key) = id_of(record.key.as_deref()) {
        tell("messaging.kafka.message.key", key.into());
    }
    tell("backburner.outcome", outcome(&slot.outcome).into());
    tell("backburner.attempt", i64::from(slot.item.attempts() + 1).into());
    tell("backburner.generation", i64::from(slot.item.generation()).into());
    if let Some(event) = &slot.decoded {
        tell("messaging.message.id", event.attempt.event_id.to_string().into());
        tell("backburner.event_type", event.event_type.clone().into());
    }
    if let Some(id) = slot.correlation_id() {
        tell("backburner.correlation_id", id.into_owned().into());
    }
    if let Some(code) = failure(&slot.outcome) {
        tell("error.type", code.into());
    }
    if let Outcome::Dead(class, _) = &slot.outcome {
        let letter = letters::id(shared, record, slot.item.generation());
        tell("backburner.dead_letter_id", letter.to_string().into());
        tell("backburner.dead_letter_class", class.as_str().into());
    }
    attributes
}

/// A key that is an id; another one may say anything of anybody.
fn id_of(key: Option<&[u8]>) -> Option<String> {
    let id = Uuid::try_parse_ascii(key?).ok()?;
    Some(id.to_string())
}
