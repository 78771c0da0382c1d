//! What a batch says about its dead, and about those that were put back.

use std::panic::AssertUnwindSafe;

use chrono::{DateTime, Utc};
use dead_letters::{
    ACTIONS_TOPIC, Action, Class, DeadLetter, Entry, Headers, RequeueOutcome, Truncated, dlq_topic,
    fingerprint, letter_id,
};
use metrics::counter;
use tracing::field::display;
use uuid::Uuid;

use super::{context::Context, decide::sized};
use crate::{
    Cause,
    event::{Death, Emit},
    handler::Handler,
    lane::own_failure,
    metrics::DEAD_LETTERS,
    panics,
    partition::{
        batch::{Outcome, Slot, Tally},
        shared::Shared,
    },
    record::Record,
};

/// Longest word of a record in a log line, in bytes.
const MAX_SHOWN: usize = 256;

/// The dead letter of a slot that died.
pub(crate) fn dead<H: Handler>(context: &Context<'_, H>, slot: &Slot<H>, now: DateTime<Utc>) -> Option<Emit> {
    let Outcome::Dead(class, cause) = &slot.outcome else { return None };
    let tried = match class {
        Class::Poison => 0,
        // Dead before it was tried again: what is judged beforehand as exhausted is so by an operator.
        Class::Crash => slot.item.attempts(),
        Class::Exhausted if slot.item.diagnosis.dead.is_some() => slot.item.attempts(),
        Class::Permanent | Class::Exhausted => slot.item.attempts() + 1,
    };
    let mut letter = letter(context.shared, &slot.item.record, slot.item.generation(), *class, cause, now);
    letter.event_id = slot.decoded.as_ref().map(|event| event.attempt.event_id);
    letter.event_type = slot.decoded.as_ref().map(|event| event.event_type.clone());
    letter.correlation_id = slot.correlation_id().map(Into::into);
    letter.attempts = tried + slot.item.diagnosis.crashes;
    letter.first_failed_at = slot.item.parked.and_then(|waited| waited.first_failed_at).unwrap_or(now);
    Some(sent(&letter, &slot.item.record))
}

/// What the handler has to say of a slot's death.
pub(crate) fn buried<H: Handler>(context: &Context<'_, H>, slot: &Slot<H>) -> Vec<Emit> {
    let (Outcome::Dead(class, cause), Some(event)) = (&slot.outcome, &slot.decoded) else {
        return Vec::new();
    };
    let generation = slot.item.generation();
    let dead_letter_id = id(context.shared, &slot.item.record, generation);
    let death = Death { dead_letter_id, class: *class, code: &cause.code, generation };
    let handler = &context.shared.handler;
    // It may panic on just what killed the actor before: the letter goes out all the same.
    let said = panics::quietly(AssertUnwindSafe(|| handler.buried(&event.body, &death)));
    match said.filter(|said| sized(said).is_ok()) {
        Some(said) => said,
        None => {
            tracing::error!(%dead_letter_id, offset = slot.item.record.offset.0, "the handler panics on its event's death, or what it \
                says of it is too large: nothing is published of it");
            Vec::new()
        }
    }
}

/// A dead letter with what can be said of any record.
pub(crate) fn letter<H: Handler>(
    shared: &Shared<H>,
    record: &Record,
    generation: u32,
    class: Class,
    cause: &Cause,
    now: DateTime<Utc>,
) -> DeadLetter {
    let settings = &shared.settings;
    DeadLetter {
        id: id(shared, record, generation),
        group: settings.group.clone(),
        handler: shared.handler.name().to_owned(),
        class,
        origin: record.source.clone(),
        offset: record.offset,
        timestamp_ms: record.timestamp_ms,
        event_id: None,
        event_type: None,
        correlation_id: None,
        error_code: cause.code.to_string(),
        error: cause.message.clone(),
        // Whoever ended it, and why, makes no other failure of it.
        fingerprint: fingerprint(class, &cause.code, &own_failure(&cause.message)),
        attempts: 0,
        first_failed_at: now,
        failed_at: now,
        generation,
        service: settings.service.clone(),
        build: settings.build.clone(),
        truncated: Truncated::from_headers(&record.headers),
    }
}

/// The id of the record's death in a generation.
pub(super) fn id<H: Handler>(shared: &Shared<H>, record: &Record, generation: u32) -> Uuid {
    letter_id(&record.source, record.offset, record.timestamp_ms, &shared.settings.group, generation)
}

/// The letter as it goes to its topic: original key and value, the rest in headers.
pub(crate) fn sent(letter: &DeadLetter, record: &Record) -> Emit {
    Emit {
        topic: dlq_topic(&letter.group),
        key: record.key.as_deref().map(<[u8]>::to_vec),
        value: record.value.as_deref().map(<[u8]>::to_vec),
        headers: letter.to_headers(&record.headers),
    }
}

/// The ledger entry of a requeued slot that has ended.
pub(crate) fn outcome<H: Handler>(
    context: &Context<'_, H>,
    slot: &Slot<H>,
    now: DateTime<Utc>,
) -> Option<Emit> {
    let waited = slot.item.parked?;
    let dlq_id = waited.requeued_from?;
    let outcome = match slot.outcome {
        Outcome::Applied if slot.moot.is_some() => RequeueOutcome::Ignored,
        Outcome::Applied => RequeueOutcome::Applied,
        Outcome::Duplicate => RequeueOutcome::AlreadyApplied,
        Outcome::Ignored => RequeueOutcome::Ignored,
        Outcome::Dead(..) | Outcome::DeadAlready => RequeueOutcome::DeadAgain,
        Outcome::Behind | Outcome::Again(..) | Outcome::Open => return None,
    };
    let why = slot.moot.as_ref().map(ToString::to_string);
    Some(told(context.shared, dlq_id, waited.generation, outcome, why, now))
}

/// The ledger's entry for a letter that was put back.
pub(crate) fn told<H: Handler>(
    shared: &Shared<H>,
    dlq_id: Uuid,
    generation: u32,
    outcome: RequeueOutcome,
    reason: Option<String>,
    now: DateTime<Utc>,
) -> Emit {
    let group = shared.settings.group.clone();
    let action = Action::Outcome { generation, outcome };
    let entry = Entry { dlq_id, action, at: now, by: group.clone(), group, job: None, reason };
    Emit {
        topic: ACTIONS_TOPIC.to_owned(),
        key: Some(dlq_id.to_string().into_bytes()),
        value: Some(serde_json::to_vec(&entry).expect("ids, numbers and strings always serialise")),
        headers: Headers::new(),
    }
}

/// Counts a death, and says so in one line.
pub(crate) fn died<H: Handler>(
    shared: &Shared<H>,
    record: &Record,
    generation: u32,
    class: Class,
    cause: &Cause,
    event: (Option<Uuid>, &str),
) {
    let group = shared.settings.group.as_str();
    counter!(DEAD_LETTERS, "group" => group.to_owned(), "class" => class.as_str()).increment(1);
    tracing::warn!(
        name: "dead-letter",
        dead_letter_id = %id(shared, record, generation),
        group,
        topic = &*record.source.topic,
        partition = record.source.partition,
        offset = record.offset.0,
        key = record.key.as_deref().map(shown),
        event_id = event.0.map(display),
        correlation_id = Some(event.1).filter(|id| !id.is_empty()),
        class = class.as_str(),
        generation,
        code = &*cause.code,
        error = cause.message,
        "dead letter"
    );
}

/// A key as a log line holds it: its beginning, escaped.
fn shown(key: &[u8]) -> String {
    let cut = &key[..key.len().min(MAX_SHOWN)];
    let more = if cut.len() < key.len() { "…" } else { "" };
    format!("{}{more}", cut.escape_ascii())
}

/// The beginning of a word that a record brought along.
fn beginning(word: &str) -> &str {
    let mut end = word.len().min(MAX_SHOWN);
    while !word.is_char_boundary(end) {
        end -= 1;
    }
    &word[..end]
}

/// One line for each record that failed, died or came back to life. Records that just passed have none.
pub(crate) fn log<H: Handler>(context: &Context<'_, H>, slots: &[Slot<H>]) {
    for slot in slots {
        let failed_before = slot.item.attempts() > 0;
        let passed = slot.outcome == Outcome::Applied && !failed_before && slot.item.generation() == 1;
        if passed && slot.note.is_none() {
            continue;
        }
        let record = &slot.item.record;
        let id = slot.decoded.as_ref().map(|event| event.attempt.event_id);
        let event_id = id.map(display);
        let correlation_id = slot.correlation_id().unwrap_or_default();
        let correlation_id = beginning(&correlation_id);
        let offset = record.offset.0;
        if let (Some(note), Outcome::Applied) = (slot.note, &slot.outcome) {
            tracing::info!(offset, event_id, %correlation_id, key = record.key.as_deref().map(shown), "{note}");
        }
        match &slot.outcome {
            Outcome::Applied if passed => {}
            Outcome::Again(cause, due_at, Tally::Failed) => {
                let now = slot.decoded.as_ref().map_or(*due_at, |event| event.attempt.now);
                let backoff_ms = (*due_at - now).num_milliseconds().max(0);
                tracing::warn!(offset, event_id, %correlation_id, attempt = slot.item.attempts() + 1,
                    backoff_ms, code = &*cause.code, error = cause.message, "attempt failed; trying again");
            }
            Outcome::Dead(class, cause) => {
                died(context.shared, record, slot.item.generation(), *class, cause, (id, correlation_id));
            }
            Outcome::Applied if slot.moot.is_some() => tracing::info!(offset, event_id, %correlation_id,
                generation = slot.item.generation(), why = slot.moot.as_deref(), "came to nothing after failing before"),
            Outcome::Applied => tracing::info!(offset, event_id, %correlation_id,
                attempt = slot.item.attempts() + 1, generation = slot.item.generation(), "applied after failing before"),
            Outcome::Duplicate if slot.item.generation() > 1 => {
                tracing::info!(offset, event_id, %correlation_id, "requeued, and applied before");
            }
            _ => {}
        }
    }
}
