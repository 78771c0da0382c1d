//! The envelope around every event.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use thiserror::Error;
use uuid::Uuid;

use crate::{
    event::Event,
    read::{Misfit, check, explain},
};

/// The version this code reads and writes.
pub const VERSION: u32 = 1;

/// The `content-type` header of every record.
pub const CONTENT_TYPE: &str = "application/json";

/// Longest correlation id, in bytes: it goes into every record, log line and dead letter that has to do with it.
pub const MAX_CORRELATION_ID: usize = 256;

/// An event with what every event has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// Names the event across topics and redeliveries.
    pub event_id: Uuid,
    /// When it happened, UTC.
    pub occurred_at: DateTime<Utc>,
    /// Names the conversation it belongs to: all that one request set off.
    pub correlation_id: String,
    /// The event that caused it.
    pub causation_id: Option<Uuid>,
    /// The event.
    pub event: Event,
}

/// What a record's body turned out to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// An event of this version.
    Event(Box<Envelope>),
    /// A sound envelope around a type this code does not know: to be ignored.
    Unknown(Known),
}

/// What can be said of an event without its payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// Its id.
    pub event_id: Uuid,
    /// Its type.
    pub event_type: String,
    /// Its version.
    pub version: u32,
    /// Its correlation id.
    pub correlation_id: String,
}

/// A body that is no event of ours.
#[derive(Debug, Error)]
pub enum ParseError {
    /// Not JSON at all.
    #[error("the body is not JSON: {0}")]
    NotJson(Misfit),
    /// JSON without the envelope's fields, or with others in their place.
    #[error("the body is no event envelope: {0}")]
    BadEnvelope(Misfit),
    /// The payload lacks a field or has one of another type. Places are counted from the payload's beginning.
    #[error("the payload of {event_type} does not fit: {misfit}")]
    BadPayload {
        /// The event's type.
        event_type: String,
        /// What does not fit.
        misfit: Misfit,
    },
    /// A version of a known type that this code cannot read.
    #[error("{} has version {}, this consumer reads version {VERSION}", .0.event_type, .0.version)]
    UnsupportedVersion(Known),
}

impl ParseError {
    /// The stable code of this error in dead letters.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NotJson(_) => "not-json",
            Self::BadEnvelope(_) => "bad-envelope",
            Self::BadPayload { .. } => "bad-payload",
            Self::UnsupportedVersion(_) => "unsupported-version",
        }
    }
}

#[derive(Deserialize)]
struct Wire<'a> {
    event_id: Uuid,
    event_type: String,
    version: u32,
    occurred_at: DateTime<Utc>,
    correlation_id: String,
    causation_id: Option<Uuid>,
    #[serde(borrow)]
    payload: &'a RawValue,
}

#[derive(Serialize)]
struct WireOut<'a> {
    event_id: Uuid,
    event_type: &'a str,
    version: u32,
    occurred_at: DateTime<Utc>,
    correlation_id: &'a str,
    causation_id: Option<Uuid>,
    payload: &'a Event,
}

impl Envelope {
    /// Reads a record's body. Fields nobody knows are ignored.
    pub fn parse(body: &[u8]) -> Result<Parsed, ParseError> {
        let wire: Wire<'_> = serde_json::from_slice(body).map_err(|_| match explain::<Wire<'_>>(body) {
            misfit @ Misfit::NotJson { .. } => ParseError::NotJson(misfit),
            misfit => ParseError::BadEnvelope(misfit),
        })?;
        check("correlation_id", &wire.correlation_id, MAX_CORRELATION_ID).map_err(ParseError::BadEnvelope)?;
        let read = Event::read(&wire.event_type, wire.payload.get());
        let known = |event_type| Known {
            event_id: wire.event_id,
            event_type,
            version: wire.version,
            correlation_id: wire.correlation_id.clone(),
        };
        match read {
            None => Ok(Parsed::Unknown(known(wire.event_type))),
            Some(_) if wire.version != VERSION => Err(ParseError::UnsupportedVersion(known(wire.event_type))),
            Some(Err(misfit)) => Err(ParseError::BadPayload { event_type: wire.event_type, misfit }),
            Some(Ok(event)) => Ok(Parsed::Event(Box::new(Self {
                event_id: wire.event_id,
                occurred_at: wire.occurred_at,
                correlation_id: wire.correlation_id,
                causation_id: wire.causation_id,
                event,
            }))),
        }
    }

    /// The body to publish.
    pub fn to_json(&self) -> Vec<u8> {
        let wire = WireOut {
            event_id: self.event_id,
            event_type: self.event.event_type(),
            version: VERSION,
            occurred_at: self.occurred_at,
            correlation_id: &self.correlation_id,
            causation_id: self.causation_id,
            payload: &self.event,
        };
        serde_json::to_vec(&wire).expect("strings, numbers and ids always serialise")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{OrderCancelled, OrderCreated};

    fn envelope(event: impl Into<Event>) -> Envelope {
        Envelope {
            event_id: Uuid::from_u128(1),
            occurred_at: DateTime::from_timestamp_millis(1_790_000_000_000).expect("in range"),
            correlation_id: "c-1".into(),
            causation_id: None,
            event: event.into(),
        }
    }

    fn cancelled() -> Envelope {
        envelope(OrderCancelled { order_id: Uuid::from_u128(2), order_version: 3, reason: "declined".into() })
    }

    #[test]
    fn the_wire_form_is_a_contract() {
        let json = r#"{"event_id":"00000000-0000-0000-0000-000000000001","event_type":"ORDER_CANCELLED","version":1,"occurred_at":"2026-09-21T14:13:20Z","correlation_id":"c-1","causation_id":null,"payload":{"order_id":"00000000-0000-0000-0000-000000000002","order_version":3,"reason":"declined"}}"#;
        assert_eq!(String::from_utf8(cancelled().to_json()).expect("UTF-8"), json);
        assert_eq!(Envelope::parse(json.as_bytes()).expect("parses"), Parsed::Event(Box::new(cancelled())));
    }

    #[test]
    fn unknown_fields_are_ignored_and_optional_ones_may_be_missing() {
        let json = r#"{"event_id":"00000000-0000-0000-0000-000000000001","event_type":"ORDER_CREATED","version":1,"occurred_at":"2026-09-21T14:13:20Z","correlation_id":"c-1","extra":1,
            "payload":{"order_id":"00000000-0000-0000-0000-000000000002","order_version":1,"customer_id":"c","item":"pizza","quantity":1,"amount_cents":5,"colour":"red"}}"#;
        let created = OrderCreated {
            order_id: Uuid::from_u128(2),
            order_version: 1,
            customer_id: "c".into(),
            item: "pizza".into(),
            quantity: 1,
            amount_cents: 5,
            payment_token: None,
        };
        assert_eq!(
            Envelope::parse(json.as_bytes()).expect("parses"),
            Parsed::Event(Box::new(envelope(created)))
        );
    }

    #[test]
    fn what_cannot_be_read_says_why() {
        let body = String::from_utf8(cancelled().to_json()).expect("UTF-8");
        let code = |body: &str| Envelope::parse(body.as_bytes()).expect_err("not an event").code();
        assert_eq!(code("not json"), "not-json");
        assert_eq!(code(&body[..body.len() - 1]), "not-json");
        assert_eq!(code("{}"), "bad-envelope");
        assert_eq!(code("[1]"), "bad-envelope");
        assert_eq!(code(&body.replace("\"reason\":\"declined\"", "\"reason\":7")), "bad-payload");
        assert_eq!(code(&body.replace("\"version\":1", "\"version\":2")), "unsupported-version");
        assert_eq!(Envelope::parse(b"\xff\xfe").expect_err("not UTF-8").code(), "not-json");
    }

    #[test]
    fn an_error_names_the_field_and_repeats_no_value() {
        let body = String::from_utf8(cancelled().to_json()).expect("UTF-8");
        let said = |body: &str| Envelope::parse(body.as_bytes()).expect_err("not an event").to_string();
        for (from, to, field) in [
            ("\"reason\":\"declined\"", "\"reason\":4111111111111111".to_owned(), "reason"),
            ("\"order_version\":3", "\"order_version\":\"4111 1111\"".into(), "order_version"),
            ("\"version\":1", format!("\"version\":\"{}\"", "4111".repeat(200_000)), "version"),
            (
                "\"correlation_id\":\"c-1\"",
                format!("\"correlation_id\":\"{}\"", "4111".repeat(200_000)),
                "correlation_id",
            ),
            ("\"correlation_id\":\"c-1\"", "\"correlation_id\":\"4111\\u0000\"".into(), "correlation_id"),
            ("declined", "4111\\u0000".into(), "reason"),
            ("declined", "4111".repeat(10_000), "reason"),
            ("00000000-0000-0000-0000-000000000002", "4111".into(), "order_id"),
            ("00000000-0000-0000-0000-000000000001", "4111".into(), "event_id"),
            ("2026-09-21T14:13:20Z", "4111".into(), "occurred_at"),
        ] {
            let said = said(&body.replace(from, &to));
            assert!(said.contains(&format!("`{field}`")) && !said.contains("4111"), "{from}: {said}");
            assert!(said.len() < 300, "{from}: {said}");
        }
    }

    #[test]
    fn an_unknown_type_is_known_to_be_unknown_whatever_its_version_and_payload() {
        let body = String::from_utf8(cancelled().to_json()).expect("UTF-8");
        let body = body.replace("ORDER_CANCELLED", "ORDER_PRAISED").replace("\"version\":1", "\"version\":9");
        let Parsed::Unknown(known) = Envelope::parse(body.as_bytes()).expect("an envelope") else {
            panic!("not an event of ours");
        };
        assert_eq!((known.event_type.as_str(), known.version), ("ORDER_PRAISED", 9));
    }
}
