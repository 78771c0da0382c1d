//! What is remembered of an order's events.

use chrono::{DateTime, Utc};
use contracts::{Envelope, topics};
use serde::Serialize;
use uuid::Uuid;

/// One event of an order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TimelineEntry {
    /// The event.
    pub event_id: Uuid,
    /// Its type.
    pub event_type: &'static str,
    /// The service that said it.
    pub service: &'static str,
    /// The topic it went over.
    pub topic: &'static str,
    /// As the event has it: of one that another one caused, when that one was written. What waited, or came out of a dead letter,
    /// has the time of its cause, however much later it was said.
    pub occurred_at: DateTime<Utc>,
    /// When this service received or emitted it: by this, a timeline tells how long something took.
    pub recorded_at: DateTime<Utc>,
    /// The order's version after it.
    pub order_version: i64,
}

impl TimelineEntry {
    /// Of an event, received or emitted at `recorded_at`, which left the order at `order_version`.
    pub fn new(envelope: &Envelope, recorded_at: DateTime<Utc>, order_version: i64) -> Self {
        let topic = envelope.event.topic();
        let service = match topic {
            topics::PAYMENTS => "payments",
            topics::DELIVERIES => "delivery",
            _ => crate::NAME,
        };
        Self {
            event_id: envelope.event_id,
            event_type: envelope.event.event_type(),
            service,
            topic,
            occurred_at: envelope.occurred_at,
            recorded_at,
            order_version,
        }
    }
}
