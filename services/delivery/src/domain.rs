//! Who delivers what. Pure: the couriers and the time arrive as arguments.
//!
//! A courier is taken when an order is paid and given back when the order is over, whichever way. The events come from
//! two topics, so either may be seen first: an order that is over before it was paid for is closed, and nobody is sent.

use std::{collections::BTreeMap, time::Duration};

use chrono::{DateTime, Utc};
use contracts::{DeliveryAssigned, DeliveryFailed, Event, PaymentSuccess};
use thiserror::Error;

/// The test token for which nobody is ever found.
pub const NO_COURIER_TOKEN: &str = "tok_no_courier";

/// The delivery of one order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assignment {
    /// Where it stands.
    pub status: Status,
    /// The highest version of the order that was seen.
    pub order_version: i64,
}

/// Where a delivery stands. An order of which no event has come has none at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Status {
    /// A courier has it in hand.
    Assigned {
        /// Who.
        courier_id: i32,
        /// Since when.
        at: DateTime<Utc>,
    },
    /// The order is over and the courier is free again.
    Released {
        /// Who had it.
        courier_id: i32,
        /// Since when.
        assigned_at: DateTime<Utc>,
        /// Until when.
        at: DateTime<Utc>,
    },
    /// Nobody could take it.
    Failed {
        /// When that was decided.
        at: DateTime<Utc>,
    },
    /// The order was over before a courier was needed.
    Closed {
        /// When that was seen.
        at: DateTime<Utc>,
    },
}

/// Someone who delivers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Courier {
    /// Who.
    pub id: i32,
    /// Their name.
    pub name: String,
    /// How many orders they can have in hand.
    pub capacity: i32,
    /// How many they have.
    pub load: i32,
}

/// Couriers that may be sent, in the order of their ids, and by how much whose load changes. Others may be freed as well.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Couriers {
    at_hand: Vec<Courier>,
    changes: BTreeMap<i32, i32>,
}

impl Couriers {
    /// As loaded.
    pub fn new(mut at_hand: Vec<Courier>) -> Self {
        at_hand.sort_by_key(|courier| courier.id);
        Self { at_hand, changes: BTreeMap::new() }
    }

    /// By how much whose load changed since they were loaded, in the order of their ids.
    pub fn changes(&self) -> impl Iterator<Item = (i32, i32)> {
        self.changes.iter().map(|(id, by)| (*id, *by)).filter(|(_, by)| *by != 0)
    }

    /// Those that may be sent.
    pub fn iter(&self) -> impl Iterator<Item = &Courier> {
        self.at_hand.iter()
    }

    /// The courier with the smallest share of their capacity in use, if anybody has room; their load grows by one.
    fn take(&mut self) -> Option<Courier> {
        let share = |courier: &Courier, other: &Courier| {
            let used = |a: &Courier, b: &Courier| i64::from(a.load) * i64::from(b.capacity);
            used(courier, other).cmp(&used(other, courier)).then(courier.id.cmp(&other.id))
        };
        let free = self.at_hand.iter_mut().filter(|courier| courier.load < courier.capacity);
        let taken = free.min_by(|a, b| share(a, b))?;
        taken.load += 1;
        *self.changes.entry(taken.id).or_default() += 1;
        Some(taken.clone())
    }

    fn give_back(&mut self, id: i32) {
        if let Ok(at) = self.at_hand.binary_search_by_key(&id, |courier| courier.id) {
            self.at_hand[at].load -= 1;
        }
        *self.changes.entry(id).or_default() -= 1;
    }
}

/// What an event changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The assignment, if it changed.
    pub assignment: Option<Assignment>,
    /// What there is to say.
    pub event: Option<Event>,
}

/// An event that cannot be handled now.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum Refusal {
    /// Somebody may be free in a moment.
    #[error("every courier has as many orders in hand as they can")]
    NoCourierFree,
}

impl Refusal {
    /// The stable code in `/parked`.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NoCourierFree => "no-courier-free",
        }
    }
}

/// The try at hand.
#[derive(Clone, Copy, Debug)]
pub struct Try {
    /// How long a courier is looked for already.
    pub age: Duration,
    /// How long one is looked for at the most.
    pub patience: Duration,
    /// Now.
    pub now: DateTime<Utc>,
    /// Whether [`NO_COURIER_TOKEN`] has its effect.
    pub test_tokens: bool,
}

/// Takes `event` in. On an error nothing has changed.
pub fn decide(
    event: &Event,
    assignment: Option<&Assignment>,
    couriers: &mut Couriers,
    this_try: Try,
) -> Result<Outcome, Refusal> {
    match (event, assignment) {
        (Event::PaymentSuccess(paid), None) => assign(paid, couriers, this_try),
        (Event::OrderCompleted(_) | Event::OrderCancelled(_) | Event::RefundRequested(_), _) => {
            Ok(Outcome { assignment: over(event, assignment, couriers, this_try.now), event: None })
        }
        _ => Ok(Outcome { assignment: None, event: None }),
    }
}

fn assign(paid: &PaymentSuccess, couriers: &mut Couriers, this_try: Try) -> Result<Outcome, Refusal> {
    let PaymentSuccess { order_id, order_version, .. } = *paid;
    let at = this_try.now;
    let nobody = this_try.test_tokens && paid.payment_token.as_deref() == Some(NO_COURIER_TOKEN);
    let taken = if nobody { None } else { couriers.take() };
    let (status, event) = match taken {
        Some(Courier { id: courier_id, name: courier, .. }) => {
            let event = DeliveryAssigned { order_id, order_version, courier_id, courier };
            (Status::Assigned { courier_id, at }, event.into())
        }
        None if !nobody && this_try.age < this_try.patience => return Err(Refusal::NoCourierFree),
        None => {
            let reason = "no courier could take the order".to_owned();
            (Status::Failed { at }, DeliveryFailed { order_id, order_version, reason }.into())
        }
    };
    Ok(Outcome { assignment: Some(Assignment { status, order_version }), event: Some(event) })
}

/// The order is over: nobody is to be sent, and whoever was is free.
fn over(
    event: &Event,
    assignment: Option<&Assignment>,
    couriers: &mut Couriers,
    at: DateTime<Utc>,
) -> Option<Assignment> {
    let version = event.order_version();
    match assignment {
        None => Some(Assignment { status: Status::Closed { at }, order_version: version }),
        Some(&Assignment { status: Status::Assigned { courier_id, at: assigned_at }, order_version }) => {
            couriers.give_back(courier_id);
            Some(Assignment {
                status: Status::Released { courier_id, assigned_at, at },
                order_version: order_version.max(version),
            })
        }
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests;
