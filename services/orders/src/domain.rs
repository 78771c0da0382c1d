//! What an order is, and what becomes of it. Pure: what others say arrives as arguments.
//!
//! An order's state is a function of the set of facts known of it: payments and deliveries come over different topics,
//! so that an assignment may arrive before the payment that it rests on. Facts only ever join the set, and each
//! is learned once, so whatever order they arrive in, the order ends the same. An end is final: what arrives later is
//! kept in the timeline and changes nothing, for by then others have acted on it.

use std::fmt;

use chrono::{DateTime, Utc};
use contracts::{Event, OrderCancelled, OrderCompleted, RefundRequested};
use serde::{Deserialize, Serialize};
use thiserror::Error;
use uuid::Uuid;

use crate::timeline::TimelineEntry;

/// One order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// Where it is: for an open order, what its facts amount to.
    pub status: Status,
    /// Why, if it is being refunded or was cancelled.
    pub reason: Option<String>,
    /// Counts changes; 1 when created.
    pub version: i64,
    /// What is known of it.
    pub facts: Facts,
    /// When it was accepted.
    pub created_at: DateTime<Utc>,
    /// Entries of its timeline that are not saved yet, oldest first.
    pub unsaved: Vec<TimelineEntry>,
    /// It has ended, and that is not saved yet.
    pub ended: bool,
}

impl Order {
    /// One just accepted.
    pub fn new(created_at: DateTime<Utc>) -> Self {
        Self {
            status: Status::Pending,
            reason: None,
            version: 1,
            facts: Facts::default(),
            created_at,
            unsaved: Vec::new(),
            ended: false,
        }
    }
}

/// Where an order is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Status {
    /// Accepted; not paid yet.
    Pending,
    /// Paid; no courier yet.
    Paid,
    /// Paid and not deliverable: the money is on its way back.
    Refunding,
    /// Paid and with a courier. Final.
    Completed,
    /// Ended without delivery; nothing is owed. Final.
    Cancelled,
}

impl Status {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Pending, Self::Paid, Self::Refunding, Self::Completed, Self::Cancelled];

    /// As it is stored and shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "PENDING",
            Self::Paid => "PAID",
            Self::Refunding => "REFUNDING",
            Self::Completed => "COMPLETED",
            Self::Cancelled => "CANCELLED",
        }
    }

    /// Reads [`Status::as_str`].
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == text)
    }

    /// Whether nothing changes any more.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Completed | Self::Cancelled)
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Who delivers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Courier {
    /// Their number.
    pub id: i32,
    /// Their name.
    pub name: String,
}

/// All that is known of an order from others. Each is learned once; the first word stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// Charged, in cents.
    pub paid: Option<i64>,
    /// Why it cannot be charged.
    pub payment_failed: Option<String>,
    /// Who delivers.
    pub courier: Option<Courier>,
    /// Why nobody can deliver.
    pub delivery_failed: Option<String>,
    /// Given back, in cents.
    pub refunded: Option<i64>,
}

impl Facts {
    /// Adds what an event says; false when it was known.
    fn learn(&mut self, event: &Event) -> bool {
        match event {
            Event::PaymentSuccess(paid) => learn(&mut self.paid, &paid.amount_cents),
            Event::PaymentFailed(failed) => learn(&mut self.payment_failed, &failed.reason),
            Event::DeliveryAssigned(assigned) => {
                learn(&mut self.courier, &Courier { id: assigned.courier_id, name: assigned.courier.clone() })
            }
            Event::DeliveryFailed(failed) => learn(&mut self.delivery_failed, &failed.reason),
            Event::PaymentRefunded(refunded) => learn(&mut self.refunded, &refunded.amount_cents),
            // Our own words: nobody else's.
            Event::OrderCreated(_)
            | Event::OrderCompleted(_)
            | Event::OrderCancelled(_)
            | Event::RefundRequested(_) => false,
        }
    }

    /// The status these facts amount to, and why it is so where the customer would ask.
    pub fn status(&self) -> (Status, Option<String>) {
        let delivery =
            || self.delivery_failed.clone().unwrap_or_else(|| "the payment was refunded".to_owned());
        if self.refunded.is_some() {
            // Nobody gives back what was not taken: a refund says that the order was paid, too.
            (Status::Cancelled, Some(delivery()))
        } else if self.paid.is_some() {
            if self.delivery_failed.is_some() {
                (Status::Refunding, Some(delivery()))
            } else if self.courier.is_some() {
                (Status::Completed, None)
            } else {
                (Status::Paid, None)
            }
        } else if let Some(reason) = &self.payment_failed {
            (Status::Cancelled, Some(reason.clone()))
        } else {
            (Status::Pending, None)
        }
    }
}

fn learn<T: Clone>(known: &mut Option<T>, said: &T) -> bool {
    let new = known.is_none();
    if new {
        *known = Some(said.clone());
    }
    new
}

/// What an event changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The order. An event that is late or repeated leaves it as it was, and is remembered all the same.
    pub order: Order,
    /// What there is to say.
    pub event: Option<Event>,
}

/// An event that cannot be handled.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum Refusal {
    /// Nobody has placed such an order here.
    #[error("{event_type} is about order {order_id}, which does not exist")]
    UnknownOrder {
        /// What was said.
        event_type: &'static str,
        /// Of which order.
        order_id: Uuid,
    },
}

impl Refusal {
    /// The stable code in dead letters.
    pub fn code(&self) -> &'static str {
        match self {
            Self::UnknownOrder { .. } => "unknown-order",
        }
    }
}

/// Takes `event` in. A change raises the version by one; a change of status may have an event to emit.
pub fn decide(event: &Event, order: Option<&Order>) -> Result<Outcome, Refusal> {
    let (event_type, order_id) = (event.event_type(), event.order_id());
    let mut order = order.cloned().ok_or(Refusal::UnknownOrder { event_type, order_id })?;
    if order.status.is_final() || !order.facts.learn(event) {
        return Ok(Outcome { order, event: None });
    }
    order.version += 1;
    let before = order.status;
    (order.status, order.reason) = order.facts.status();
    order.ended = order.status.is_final();
    let event = if order.status == before { None } else { said(order_id, &order) };
    Ok(Outcome { order, event })
}

/// The event to emit of an order that has come to its status.
fn said(order_id: Uuid, order: &Order) -> Option<Event> {
    let order_version = order.version;
    let reason = || order.reason.clone().unwrap_or_default();
    match (order.status, &order.facts) {
        (Status::Completed, Facts { courier: Some(courier), .. }) => {
            Some(OrderCompleted { order_id, order_version, courier_id: courier.id }.into())
        }
        (Status::Refunding, Facts { paid: Some(amount_cents), .. }) => {
            let (amount_cents, reason) = (*amount_cents, reason());
            Some(RefundRequested { order_id, order_version, amount_cents, reason }.into())
        }
        (Status::Cancelled, _) => Some(OrderCancelled { order_id, order_version, reason: reason() }.into()),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
