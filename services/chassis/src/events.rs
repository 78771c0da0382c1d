//! The shared contracts on one side, the runtime's records on the other.

use actors::{Cause, Death, Decoded, Emit, Event, Headers, Record, Rejection};
use chrono::{DateTime, Utc};
use contracts::{CONTENT_TYPE, Envelope, ParseError, Parsed};
use uuid::Uuid;

use crate::correlation;

/// An event as handlers of our services get it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inbound {
    /// The event.
    pub envelope: Envelope,
    /// When it was written to Kafka; when it happened, where Kafka does not say.
    pub written_at: DateTime<Utc>,
    /// The trace it belongs to, to be passed on with what it causes.
    pub traceparent: Option<String>,
}

/// The record to publish for an event: keyed by its order, so that an order's events keep their order.
pub fn emit(envelope: &Envelope, traceparent: Option<&str>) -> Emit {
    let mut headers = Headers::new();
    headers.push("correlation-id", Some(envelope.correlation_id.as_bytes()));
    if let Some(parent) = traceparent {
        headers.push("traceparent", Some(parent.as_bytes()));
    }
    headers.push("content-type", Some(CONTENT_TYPE.as_bytes()));
    Emit {
        topic: envelope.event.topic().to_owned(),
        key: Some(envelope.event.order_id().to_string().into_bytes()),
        value: Some(envelope.to_json()),
        headers,
    }
}

/// The event that `cause` brings about, for every service. Everything in it follows from the cause: decided once more, in a later
/// attempt or after a requeue, it is the same to the byte, so that nobody takes it for another event under a known id. Its time is
/// that at which its cause was written.
pub fn caused(cause: &Inbound, event: contracts::Event) -> Envelope {
    Envelope {
        event_id: event_id(cause, event.event_type()),
        occurred_at: cause.written_at,
        correlation_id: cause.envelope.correlation_id.clone(),
        causation_id: Some(cause.envelope.event_id),
        event,
    }
}

/// The record that says of `cause` that it is a dead letter. It may die once in each generation: so it is named by its dead letter.
pub fn buried(cause: &Inbound, death: &Death<'_>, event: contracts::Event) -> Emit {
    let event_id = Uuid::new_v5(&death.dead_letter_id, event.event_type().as_bytes());
    let envelope = Envelope { event_id, ..caused(cause, event) };
    emit(&envelope, cause.traceparent.as_deref())
}

/// The record for the event that `cause` brings about.
pub fn publish(cause: &Inbound, event: contracts::Event) -> Emit {
    emit(&caused(cause, event), cause.traceparent.as_deref())
}

/// A version 7 id made of the cause's time and, in place of chance, the cause's id and the type: an event causes at most one of
/// each type. Ids of about the same time are neighbours in an index.
fn event_id(cause: &Inbound, event_type: &str) -> Uuid {
    let digest = Uuid::new_v5(&cause.envelope.event_id, event_type.as_bytes()).into_bytes();
    let mut bits = [0; 10];
    // The other six bytes hold v5's version and variant.
    bits[..6].copy_from_slice(&digest[..6]);
    bits[6..].copy_from_slice(&digest[12..]);
    let millis = u64::try_from(cause.written_at.timestamp_millis()).unwrap_or_default();
    uuid::Builder::from_unix_timestamp_millis(millis, &bits).into_uuid()
}

/// Reads any event of the platform.
pub fn decode(record: &Record) -> Result<Decoded<Inbound>, Rejection> {
    decode_if(record, |_| true)
}

/// Reads the events a handler wants; others are ignored.
pub fn decode_if(
    record: &Record,
    wanted: impl FnOnce(&contracts::Event) -> bool,
) -> Result<Decoded<Inbound>, Rejection> {
    let body = record.value.as_deref().unwrap_or_default();
    match Envelope::parse(body) {
        Ok(Parsed::Event(envelope)) if wanted(&envelope.event) => {
            check_key(record, envelope.event.order_id())?;
            Ok(Decoded::Event(Event {
                id: envelope.event_id,
                event_type: envelope.event.event_type().to_owned(),
                correlation_id: envelope.correlation_id.clone(),
                body: Inbound {
                    written_at: written_at(record, &envelope),
                    envelope: *envelope,
                    traceparent: traceparent(record),
                },
            }))
        }
        Ok(_) => Ok(Decoded::Ignored),
        Err(error) => {
            let cause = Cause::new(error.code(), error.to_string());
            Err(match error {
                ParseError::UnsupportedVersion(_) => Rejection::Permanent(cause),
                _ => Rejection::Poison(cause),
            })
        }
    }
}

/// By its key a record has its partition, and its place behind what waits: under another key than its order's, neither is true.
fn check_key(record: &Record, order: Uuid) -> Result<(), Rejection> {
    let mut buffer = Uuid::encode_buffer();
    let expected = order.hyphenated().encode_lower(&mut buffer).as_bytes();
    if record.key.as_deref() == Some(expected) {
        return Ok(());
    }
    let message = format!("the record's key is not `{order}`, the order it is about");
    Err(Rejection::Poison(Cause::new("wrong-key", message)))
}

/// The trace that a record's header names. What is none is not passed on: it could be of any size.
fn traceparent(record: &Record) -> Option<String> {
    record.headers.text("traceparent").filter(|parent| correlation::is_traceparent(parent)).map(str::to_owned)
}

fn written_at(record: &Record, envelope: &Envelope) -> DateTime<Utc> {
    let written = DateTime::from_timestamp_millis(record.timestamp_ms).filter(|_| record.timestamp_ms > 0);
    written.unwrap_or(envelope.occurred_at)
}

#[cfg(test)]
mod tests;
