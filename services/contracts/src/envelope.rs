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
    /// When it happened, UTC. An event that another one caused has the time at which that one was written to Kafka: told once
    /// more, later, it is still the same event.
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
mod tests;
