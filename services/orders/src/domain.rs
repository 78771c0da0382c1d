//! What an order is, and what becomes of it. Pure: time, ids and prices arrive as arguments.
//!
//! An order's state is a function of the set of facts known of it: payments and deliveries come over different topics,
//! so that an assignment may be heard of before the payment that it rests on. Facts only ever join the set, and each
//! is learned once, so whatever order they arrive in, the order ends the same. An end is final: what is heard later is
//! kept in the timeline and changes nothing, for by then others have been told.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Where an order is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum State {
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

impl State {
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

    /// Reads [`State::as_str`].
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == text)
    }

    /// Whether nothing changes any more.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Completed | Self::Cancelled)
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One thing that another service says of an order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fact {
    /// It was charged, in cents.
    Paid(i64),
    /// It cannot be charged, and why.
    PaymentFailed(String),
    /// A courier has it.
    Assigned(Courier),
    /// Nobody can deliver it, and why.
    DeliveryFailed(String),
    /// What was charged was given back, in cents.
    Refunded(i64),
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
    /// Adds a fact; false when it was known.
    fn learn(&mut self, fact: &Fact) -> bool {
        match fact {
            Fact::Paid(cents) => learn(&mut self.paid, cents),
            Fact::PaymentFailed(reason) => learn(&mut self.payment_failed, reason),
            Fact::Assigned(courier) => learn(&mut self.courier, courier),
            Fact::DeliveryFailed(reason) => learn(&mut self.delivery_failed, reason),
            Fact::Refunded(cents) => learn(&mut self.refunded, cents),
        }
    }

    /// The state these facts amount to, and why it is so where the customer would ask.
    pub fn state(&self) -> (State, Option<String>) {
        let delivery =
            || self.delivery_failed.clone().unwrap_or_else(|| "the payment was refunded".to_owned());
        if self.refunded.is_some() {
            // Nobody gives back what was not taken: a refund says that the order was paid, too.
            (State::Cancelled, Some(delivery()))
        } else if self.paid.is_some() {
            if self.delivery_failed.is_some() {
                (State::Refunding, Some(delivery()))
            } else if self.courier.is_some() {
                (State::Completed, None)
            } else {
                (State::Paid, None)
            }
        } else if let Some(reason) = &self.payment_failed {
            (State::Cancelled, Some(reason.clone()))
        } else {
            (State::Pending, None)
        }
    }
}

fn learn<T: Clone>(known: &mut Option<T>, fact: &T) -> bool {
    let new = known.is_none();
    if new {
        *known = Some(fact.clone());
    }
    new
}

/// An order, as far as its fate is concerned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fate {
    /// Where it is: for an open order, what its facts amount to.
    pub state: State,
    /// Why, if it is being refunded or was cancelled.
    pub reason: Option<String>,
    /// Counts changes; 1 when created.
    pub version: i64,
    /// What is known.
    pub facts: Facts,
}

/// What others must be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// Done.
    Completed {
        /// Who delivers.
        courier_id: i32,
    },
    /// Ended without delivery.
    Cancelled {
        /// Why.
        reason: String,
    },
    /// Give the money back.
    RefundRequested {
        /// What was charged.
        amount_cents: i64,
        /// Why.
        reason: String,
    },
}

impl Fate {
    /// Of an order just accepted.
    pub fn new() -> Self {
        Self { state: State::Pending, reason: None, version: 1, facts: Facts::default() }
    }

    /// Takes a fact in. A change raises the version by one; a change of state may have to be announced.
    pub fn hear(&mut self, fact: &Fact) -> Option<Notice> {
        if self.state.is_final() || !self.facts.learn(fact) {
            return None;
        }
        self.version += 1;
        let (state, reason) = self.facts.state();
        let before = std::mem::replace(&mut self.state, state);
        self.reason = reason;
        if before == state { None } else { self.notice() }
    }

    fn notice(&self) -> Option<Notice> {
        let reason = || self.reason.clone().unwrap_or_default();
        match (self.state, &self.facts) {
            (State::Completed, Facts { courier: Some(courier), .. }) => {
                Some(Notice::Completed { courier_id: courier.id })
            }
            (State::Refunding, Facts { paid: Some(cents), .. }) => {
                Some(Notice::RefundRequested { amount_cents: *cents, reason: reason() })
            }
            (State::Cancelled, _) => Some(Notice::Cancelled { reason: reason() }),
            _ => None,
        }
    }
}

impl Default for Fate {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests;
