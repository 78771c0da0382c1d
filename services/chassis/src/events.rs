//! The shared contracts on one side, the runtime's records on the other.

use actors::{Cause, Decoded, Emit, Event, Headers, Record, Rejection};
use chrono::{DateTime, Utc};
use contracts::{CONTENT_TYPE, Envelope, ParseError, Parsed};
use uuid::Uuid;

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

/// The event that `cause` brings about. Everything in it follows from the cause: decided once more, it is the same to the byte, so
/// that nobody takes it for another event under a known id. It happened when its cause was written.
pub fn caused(cause: &Inbound, event: contracts::Event) -> Envelope {
    Envelope {
        event_id: event_id(cause, event.event_type()),
        occurred_at: cause.written_at,
        correlation_id: cause.envelope.correlation_id.clone(),
        causation_id: Some(cause.envelope.event_id),
        event,
    }
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
        Ok(Parsed::Event(envelope)) if wanted(&envelope.event) => Ok(Decoded::Event(Event {
            id: envelope.event_id,
            event_type: envelope.event.event_type().to_owned(),
            correlation_id: envelope.correlation_id.clone(),
            body: Inbound {
                written_at: written_at(record, &envelope),
                envelope: *envelope,
                traceparent: record.headers.text("traceparent").map(str::to_owned),
            },
        })),
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

fn written_at(record: &Record, envelope: &Envelope) -> DateTime<Utc> {
    let written = DateTime::from_timestamp_millis(record.timestamp_ms).filter(|_| record.timestamp_ms > 0);
    written.unwrap_or(envelope.occurred_at)
}

#[cfg(test)]
mod tests {
    use actors::{Offset, TopicPartition};
    use contracts::PaymentFailed;
    use uuid::Uuid;

    use super::*;

    fn envelope() -> Envelope {
        Envelope {
            event_id: Uuid::from_u128(1),
            occurred_at: Utc::now(),
            correlation_id: "c-1".into(),
            causation_id: None,
            event: PaymentFailed { order_id: Uuid::from_u128(2), order_version: 1, reason: "no".into() }
                .into(),
        }
    }

    fn record(emit: Emit) -> Record {
        Record {
            source: TopicPartition::new(emit.topic.as_str(), 0),
            offset: Offset(0),
            timestamp_ms: 0,
            key: emit.key.map(Vec::into_boxed_slice),
            value: emit.value.map(Vec::into_boxed_slice),
            headers: emit.headers,
        }
    }

    #[test]
    fn what_is_emitted_can_be_decoded() {
        let emitted = emit(&envelope(), Some("00-a-b-01"));
        assert_eq!(emitted.key.as_deref(), Some(Uuid::from_u128(2).to_string().as_bytes()));
        assert_eq!(emitted.headers.text("correlation-id"), Some("c-1"));
        let Decoded::Event(event) = decode(&record(emitted)).expect("sound") else { panic!("ours") };
        assert_eq!((event.id, event.event_type.as_str()), (Uuid::from_u128(1), "PAYMENT_FAILED"));
        assert_eq!(
            event.body,
            Inbound {
                written_at: event.body.envelope.occurred_at,
                envelope: envelope_at(&event.body),
                traceparent: Some("00-a-b-01".into())
            }
        );
    }

    #[test]
    fn an_event_causes_the_same_one_however_often_it_is_handled() {
        let handled = || {
            let written = Record { timestamp_ms: 1_790_000_000_123, ..record(emit(&cause(), None)) };
            let Decoded::Event(event) = decode(&written).expect("sound") else { panic!("ours") };
            event.body
        };
        let said = |cause: &Inbound| publish(cause, envelope().event);
        assert_eq!(said(&handled()), said(&handled()));
        let caused = caused(&handled(), envelope().event);
        assert_eq!(caused.occurred_at.timestamp_millis(), 1_790_000_000_123);
        assert_eq!(caused.causation_id, Some(cause().event_id));
    }

    fn cause() -> Envelope {
        Envelope { occurred_at: DateTime::UNIX_EPOCH, ..envelope() }
    }

    fn envelope_at(inbound: &Inbound) -> Envelope {
        Envelope { occurred_at: inbound.envelope.occurred_at, ..envelope() }
    }

    #[test]
    fn what_is_not_wanted_or_not_known_is_ignored() {
        let emitted = emit(&envelope(), None);
        assert!(matches!(decode_if(&record(emitted.clone()), |_| false), Ok(Decoded::Ignored)));
        let mut unknown = record(emitted);
        let body = String::from_utf8(envelope().to_json()).expect("UTF-8").replace("PAYMENT_FAILED", "HELLO");
        unknown.value = Some(body.into_bytes().into());
        assert!(matches!(decode(&unknown), Ok(Decoded::Ignored)));
    }

    #[test]
    fn what_cannot_be_read_is_rejected_by_kind() {
        let sound = String::from_utf8(envelope().to_json()).expect("UTF-8");
        let rejected = |body: &str| {
            let mut record = record(emit(&envelope(), None));
            record.value = Some(body.as_bytes().into());
            match decode(&record).expect_err("must be rejected") {
                Rejection::Poison(cause) => ("poison", cause.code.into_owned()),
                Rejection::Permanent(cause) => ("permanent", cause.code.into_owned()),
            }
        };
        assert_eq!(rejected("not json"), ("poison", "not-json".into()));
        assert_eq!(rejected("{}"), ("poison", "bad-envelope".into()));
        assert_eq!(
            rejected(&sound.replace("\"version\":1", "\"version\":2")),
            ("permanent", "unsupported-version".into())
        );
    }
}
