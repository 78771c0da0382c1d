//! A batch on its way through the pipeline: records, what is known of them, what becomes of them.

use std::{borrow::Cow, sync::Arc};

use chrono::{DateTime, Utc};
use dead_letters::{Class, Truncated};

use crate::{
    Cause,
    dedupe::payload_hash,
    event::{Attempt, Decoded, Event},
    failure::{Failure, Rejection, shorten},
    handler::Handler,
    lane::{Item, PROCESS_DEATH},
    lease::Intent,
    panics,
    record::Record,
};

/// Longest correlation id that is passed on to logs and dead letters, in bytes.
const MAX_CORRELATION_ID: usize = 256;

/// What becomes of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Not known yet.
    Open,
    Applied,
    Duplicate,
    /// A duplicate of one that died in this very generation.
    DeadAlready,
    Ignored,
    /// Waits behind another of its key (or of its id); no attempt was made.
    Behind,
    /// It is tried again then.
    Again(Cause, DateTime<Utc>, Tally),
    Dead(Class, Cause),
}

/// What it says of an event that it has to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tally {
    /// It failed: the attempt counts.
    Failed,
    /// The domain waits: its time runs, no attempt counts.
    NotYet,
    /// A server is gone: nothing counts.
    Unreachable,
    /// Its external call takes its time: nothing counts yet.
    Slow,
}

/// A record in the batch with what is known of it.
pub(crate) struct Slot<H: Handler> {
    pub(crate) item: Item,
    pub(crate) outcome: Outcome,
    pub(crate) decoded: Option<DecodedEvent<H>>,
    /// The inbox was told of it in this batch, as the first of its id.
    pub(crate) registered: bool,
    /// Redis believes it was done; its external call is skipped.
    pub(crate) hinted: bool,
    pub(crate) prepared: Option<Result<H::Prepared, Failure>>,
    /// Why what its event changed could not be written, when the batch was tried before.
    pub(crate) refused: Option<Failure>,
    /// Why its event, which is applied, came to nothing.
    pub(crate) moot: Option<Cow<'static, str>>,
    /// What the log is to say of its event once that is committed.
    pub(crate) note: Option<&'static str>,
}

/// A slot's event.
pub(crate) struct DecodedEvent<H: Handler> {
    pub(crate) attempt: Attempt,
    pub(crate) event_type: String,
    pub(crate) key: H::Key,
    pub(crate) body: Arc<H::Body>,
    pub(crate) payload_hash: i64,
}

impl<H: Handler> Slot<H> {
    /// Decodes a record. A record without an outcome comes back [`Outcome::Open`] with its event.
    pub(crate) fn decode(handler: &H, item: Item, now: DateTime<Utc>) -> Self {
        let mut slot = Self {
            outcome: Outcome::Open,
            decoded: None,
            registered: false,
            hinted: false,
            prepared: None,
            refused: None,
            moot: None,
            note: None,
            item,
        };
        if let Some((class, cause)) = slot.item.diagnosis.dead.clone() {
            // What ended processes may have done so in the decoder.
            let deadly = cause.code == PROCESS_DEATH;
            slot.outcome = Outcome::Dead(class, cause);
            if deadly {
                return slot;
            }
            // For the dead letter's sake; a decoder that panics on it must not stop it from being buried.
            let decode = std::panic::AssertUnwindSafe(|| match handler.decode(&slot.item.record) {
                Ok(Decoded::Event(event)) => Some(Self::event(handler, &slot.item, event, now)),
                _ => None,
            });
            slot.decoded = panics::quietly(decode).unwrap_or_default();
            return slot;
        }
        slot.outcome = match slot.item.record.value.as_deref() {
            None => Outcome::Ignored,
            Some(_) if slot.item.record.headers.last("dlq.truncated").is_some() => {
                Outcome::Dead(Class::Poison, too_large(&slot.item.record))
            }
            Some([]) => {
                Outcome::Dead(Class::Poison, Cause::new("empty-value", "the record's value is empty"))
            }
            Some(_) => match handler.decode(&slot.item.record) {
                Ok(Decoded::Ignored) => Outcome::Ignored,
                Ok(Decoded::Event(event)) => {
                    slot.decoded = Some(Self::event(handler, &slot.item, event, now));
                    Outcome::Open
                }
                Err(Rejection::Poison(cause)) => Outcome::Dead(Class::Poison, cause),
                Err(Rejection::Permanent(cause)) => Outcome::Dead(Class::Permanent, cause),
            },
        };
        slot
    }

    fn event(handler: &H, item: &Item, event: Event<H::Body>, now: DateTime<Utc>) -> DecodedEvent<H> {
        DecodedEvent {
            attempt: Attempt {
                event_id: event.id,
                correlation_id: event.correlation_id,
                failed_attempts: item.attempts(),
                crashes: item.diagnosis.crashes,
                generation: item.generation(),
                now,
                age: item.age(now),
            },
            event_type: event.event_type,
            key: handler.key(&event.body),
            body: Arc::new(event.body),
            payload_hash: payload_hash(item.record.value.as_deref().unwrap_or_default()),
        }
    }

    /// The batch runs at `now`.
    pub(crate) fn set_time(&mut self, now: DateTime<Utc>) {
        if let Some(event) = &mut self.decoded {
            event.attempt.now = now;
            event.attempt.age = self.item.age(now);
        }
    }

    /// The event, if the record is still to be decided.
    pub(crate) fn open(&self) -> Option<&DecodedEvent<H>> {
        if self.outcome == Outcome::Open { self.decoded.as_ref() } else { None }
    }

    /// Whether its event has an external call, made or not.
    pub(crate) fn needs_prepare(&self, handler: &H) -> bool {
        self.decoded.as_ref().is_some_and(|event| handler.needs_prepare(&event.body))
    }

    /// Whether its external call is to be made.
    pub(crate) fn wants_prepare(&self, handler: &H) -> bool {
        !self.hinted && self.open().is_some_and(|event| handler.needs_prepare(&event.body))
    }

    /// The event's correlation id, or what the record's header says; cut, since it is anybody's.
    pub(crate) fn correlation_id(&self) -> Option<Cow<'_, str>> {
        let id = match &self.decoded {
            Some(event) => Some(event.attempt.correlation_id.as_str()),
            None => self.item.record.headers.text("correlation-id"),
        };
        id.map(|id| shorten(id, MAX_CORRELATION_ID))
    }
}

/// Why a record is not handled of which only the beginning was taken.
fn too_large(record: &Record) -> Cause {
    let bytes = Truncated::from_headers(&record.headers).map_or(0, |truncated| truncated.bytes);
    let Record { source, offset, .. } = record;
    let message = format!(
        "the record, with a value of {bytes} bytes, is larger than RECORD_MAX_BYTES; all of it is in {source} at offset \
         {offset}, for as long as that topic keeps it"
    );
    Cause::new("record-too-large", message)
}

/// Where the batch has to end so that every `prepare` sees what was committed before it: ahead of the first event that
/// needs one and has an event of its key before it.
pub(crate) fn cut<H: Handler>(handler: &H, slots: &[Slot<H>]) -> usize {
    let mut keys = std::collections::HashSet::new();
    for (at, slot) in slots.iter().enumerate() {
        let Some(event) = slot.open() else { continue };
        if !keys.insert(&event.key) && handler.needs_prepare(&event.body) {
            return at;
        }
    }
    slots.len()
}

/// What is about to be tried: records that waited, or fresh ones, never both.
pub(super) fn intent(items: &[Item]) -> Intent {
    match items {
        [one] => Intent::One(one.place()),
        [first, .., last] if first.parked.is_none() => {
            Intent::Offsets { first: first.record.offset, until: last.record.offset.next().0 }
        }
        rows => Intent::Rows(rows.iter().filter_map(|item| Some(item.parked?.id)).collect()),
    }
}
