//! What an order is, and what becomes of it. Pure: what others say arrives as arguments.
//!
//! An order's state is a function of the set of facts known of it: payments and deliveries come over different topics,
//! so that an assignment may arrive before the payment that it rests on. Facts only ever join the set, and each
//! is learned once, so whatever order they arrive in, the order ends the same. An end is final: what arrives later is
//! kept in the timeline and changes nothing, for by then others have acted on it.

mod stall;

use std::{fmt, time::Duration};

use chrono::{DateTime, Utc};
use contracts::{Event, OrderCancelled, OrderCompleted, RefundRequested};
use serde::{Deserialize, Serialize};
use thiserror::Error;
use uuid::Uuid;

pub use self::stall::{Service, Stalled};
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
    /// What keeps it from going on; of an order that has ended, what keeps its money from going back.
    pub stalled: Option<Stalled>,
    /// Since when money may have to go back, until it has, or it is known that there was none: also of an order that has ended, which
    /// may have been charged while it was cancelled.
    pub owed_since: Option<DateTime<Utc>>,
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
            stalled: None,
            owed_since: None,
            unsaved: Vec::new(),
            ended: false,
        }
    }
}

impl Order {
    /// Draws the status from facts that have changed; the event to emit, if the status has changed.
    fn conclude(&mut self, order_id: Uuid, now: DateTime<Utc>) -> Option<Event> {
        self.version += 1;
        let before = self.status;
        (self.status, self.reason) = self.facts.status();
        // Of several events in one batch, one ends it.
        self.ended |= self.status != before && self.status.is_final();
        if self.status == Status::Refunding {
            self.owed_since.get_or_insert(now);
        }
        if self.status == before { None } else { said(order_id, self) }
    }

    fn drop_what_is_moot(&mut self) {
        self.stalled = self.stalled.take().filter(|stalled| !stalled.is_moot(self));
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
    /// Paid and not to be delivered: the money is on its way back.
    Refunding,
    /// Paid and with a courier. Final.
    Completed,
    /// Ended without delivery. Final; what was paid meanwhile goes back ([`Order::owed_since`]).
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
    /// Why it is not wanted any more: cancelled, or over its time.
    pub cancelled: Option<String>,
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
            // What can still be mended, and our own words: no facts.
            Event::PaymentStalled(_)
            | Event::PaymentVoided(_)
            | Event::DeliveryStalled(_)
            | Event::OrderCreated(_)
            | Event::OrderCompleted(_)
            | Event::OrderCancelled(_)
            | Event::RefundRequested(_) => false,
        }
    }

    /// Whether `event` says that nothing is held of the order: it went back, or there was nothing.
    fn is_settled_by(&self, event: &Event) -> bool {
        match event {
            Event::PaymentRefunded(_) | Event::PaymentVoided(_) => true,
            Event::PaymentFailed(_) => self.paid.is_none(),
            _ => false,
        }
    }

    /// The status these facts amount to, and why it is so where the customer would ask.
    pub fn status(&self) -> (Status, Option<String>) {
        let undelivered = || {
            // One that is not wanted is not deliverable for that reason, whatever delivery says later.
            let known = self.cancelled.as_ref().or(self.delivery_failed.as_ref());
            known.cloned().unwrap_or_else(|| "the payment was refunded".to_owned())
        };
        if self.refunded.is_some() {
            // Nobody gives back what was not taken: a refund says that the order was paid, too.
            (Status::Cancelled, Some(undelivered()))
        } else if self.paid.is_some() {
            if self.cancelled.is_some() || self.delivery_failed.is_some() {
                (Status::Refunding, Some(undelivered()))
            } else if self.courier.is_some() {
                (Status::Completed, None)
            } else {
                (Status::Paid, None)
            }
        } else if let Some(reason) = self.payment_failed.as_ref().or(self.cancelled.as_ref()) {
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

/// Why an order ends before it is delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Close {
    /// The customer does not want it any more.
    ByCustomer,
    /// It has not ended within this time.
    TimedOut(Duration),
}

impl fmt::Display for Close {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ByCustomer => f.write_str("cancelled by the customer"),
            Self::TimedOut(after) => write!(f, "timed out: not delivered within {} s", after.as_secs()),
        }
    }
}

/// An order cannot be cancelled: a courier has it.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("the order is COMPLETED: what a courier has taken cannot be cancelled")]
pub struct TooLate;

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

/// Takes `event` in, at `now`. A change raises the version by one; a change of status may have an event to emit.
pub fn decide(event: &Event, order: Option<&Order>, now: DateTime<Utc>) -> Result<Outcome, Refusal> {
    let (event_type, order_id) = (event.event_type(), event.order_id());
    let mut order = order.cloned().ok_or(Refusal::UnknownOrder { event_type, order_id })?;
    let stalled = order.stalled.clone();
    if order.facts.is_settled_by(event) {
        order.owed_since = None;
    }
    let learned = !order.status.is_final() && order.facts.learn(event);
    let event_to_emit = if learned { order.conclude(order_id, now) } else { None };
    order.stalled.take_if(|stalled| stalled.is_over_by(event));
    order.drop_what_is_moot();
    // One that is moot itself does not take the place of one that is not.
    if let Some(dead) = Stalled::of(event, now).filter(|dead| !dead.is_moot(&order)) {
        order.stalled = Some(dead);
    }
    if !learned && order.stalled != stalled && !order.status.is_final() {
        order.version += 1;
    }
    Ok(Outcome { order, event: event_to_emit })
}

/// Ends `order` before it is delivered, if it has not ended: what the provider holds goes back. One that is ending already goes on as it
/// does.
///
/// # Errors
/// [`TooLate`] for one that is delivered.
pub fn close(order_id: Uuid, order: &Order, why: Close, now: DateTime<Utc>) -> Result<Outcome, TooLate> {
    let mut order = order.clone();
    match order.status {
        Status::Completed => return Err(TooLate),
        Status::Cancelled | Status::Refunding => return Ok(Outcome { order, event: None }),
        Status::Pending | Status::Paid => {
            order.facts.cancelled = Some(why.to_string());
            // An instance of a version that does not know of cancels, beside this one during a deploy, draws the same from it.
            order.facts.delivery_failed.get_or_insert_with(|| why.to_string());
        }
    }
    let event = order.conclude(order_id, now);
    // It may be charged at this moment: payments says so, or that nothing is held.
    order.owed_since.get_or_insert(now);
    order.drop_what_is_moot();
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
