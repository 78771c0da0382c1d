//! What happens to the payment of an order. Pure: the provider's answers and the time arrive as arguments.
//!
//! Each event is looked at twice. [`call`] says what has to be asked of the provider, given the last committed state;
//! [`decide`] turns the answer into a new state, ledger entries and an event. An order is charged at most once and
//! refunded at most once, whatever arrives in whatever order, and nothing is held of an order that was cancelled.

use chrono::{DateTime, Utc};
use contracts::{Event, PaymentFailed, PaymentRefunded, PaymentSuccess, PaymentVoided};
use thiserror::Error;
use uuid::Uuid;

use crate::provider::{ChargeAnswer, Reference, VoidAnswer, token::TestToken};

/// The payment of one order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payment {
    /// Where it stands.
    pub status: Status,
    /// The highest version of the order that was seen.
    pub order_version: i64,
    /// When the status last changed.
    pub updated_at: DateTime<Utc>,
    /// Ledger entries that are not saved yet, oldest first.
    pub unsaved: Vec<Booking>,
}

/// Where a payment stands. An order nobody has charged or closed has no payment at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Status {
    /// The order ended before it was charged: it is closed to charges.
    Closed,
    /// The provider holds the money.
    Charged(Charge),
    /// The provider declined.
    Failed {
        /// Why, for people.
        reason: String,
    },
    /// The money was given back.
    Refunded(Charge),
}

/// A charge the provider made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Charge {
    /// How much, in cents.
    pub amount_cents: i64,
    /// The provider's name for it.
    pub reference: Reference,
}

/// Which way money went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// To us.
    Charge,
    /// Back to the customer.
    Refund,
}

impl Kind {
    /// The word in the ledger and in provider keys.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Charge => "charge",
            Self::Refund => "refund",
        }
    }

    /// The idempotency key the provider is asked with: one for each order and kind, so that however often it is asked,
    /// money moves once.
    pub fn provider_key(self, order_id: Uuid) -> String {
        format!("{}:{order_id}", self.as_str())
    }

    /// The order that a provider key is about; `None` for a key that [`Kind::provider_key`] does not make.
    pub fn order_of(self, key: &str) -> Option<Uuid> {
        key.strip_prefix(self.as_str())?.strip_prefix(':')?.parse().ok()
    }
}

/// A line of the ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Booking {
    /// Which way.
    pub kind: Kind,
    /// How much, in cents.
    pub amount_cents: i64,
    /// The provider's name for it.
    pub reference: Reference,
    /// When the answer was taken into the books.
    pub at: DateTime<Utc>,
}

/// What has to be asked of the provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call {
    /// Nothing: the answer is known already, or none is needed.
    Nothing,
    /// Take this much.
    Charge {
        /// How much, in cents.
        amount_cents: i64,
    },
    /// Give this charge back, all of it.
    Refund(Charge),
    /// Make sure that nothing is held of an order that is not booked as charged: the answer to a charge may have been lost.
    Void,
}

/// What the provider said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It was not asked.
    NotAsked,
    /// To a charge.
    Charge(ChargeAnswer),
    /// To a refund.
    Refund(Reference),
    /// To a void.
    Void(VoidAnswer),
}

/// What an event changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The payment, if it changed.
    pub payment: Option<Payment>,
    /// What there is to say.
    pub event: Option<Event>,
}

impl Outcome {
    const NOTHING: Self = Self { payment: None, event: None };
}

/// An event that cannot be handled.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Refusal {
    /// A charge of less than nothing. (Nothing is an amount: a free order is charged 0 cents and goes its way.)
    #[error("an order of {0} cents cannot be charged: the amount must not be negative")]
    InvalidAmount(i64),
    /// A refund where nothing was charged.
    #[error("a refund was requested and the order was never charged")]
    NothingToRefund,
    /// A refund of another amount than was charged.
    #[error(
        "a refund of {requested} cents was requested and {charged} were charged: only all of it can go back"
    )]
    RefundAmountMismatch {
        /// Cents asked for.
        requested: i64,
        /// Cents charged.
        charged: i64,
    },
    /// The payment changed between asking the provider and booking its answer. Trying again asks what is needed now.
    #[error("the payment changed while the provider was asked")]
    StateMoved,
}

impl Refusal {
    /// The stable code in dead letters.
    pub fn code(&self) -> &'static str {
        match self {
            Self::InvalidAmount(_) => "invalid-amount",
            Self::NothingToRefund => "nothing-to-refund",
            Self::RefundAmountMismatch { .. } => "refund-amount-mismatch",
            Self::StateMoved => "payment-state-moved",
        }
    }

    /// Whether another attempt can end differently.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::StateMoved)
    }
}

/// What `event` needs from the provider when the payment stands at `payment`.
pub fn call(event: &Event, payment: Option<&Payment>) -> Result<Call, Refusal> {
    let status = payment.map(|payment| &payment.status);
    match (event, status) {
        (Event::OrderCreated(order), None) if order.amount_cents < 0 => {
            Err(Refusal::InvalidAmount(order.amount_cents))
        }
        (Event::OrderCreated(order), None) => Ok(Call::Charge { amount_cents: order.amount_cents }),
        (Event::RefundRequested(refund), Some(Status::Charged(charge))) => {
            if refund.amount_cents == charge.amount_cents {
                Ok(Call::Refund(charge.clone()))
            } else {
                Err(Refusal::RefundAmountMismatch {
                    requested: refund.amount_cents,
                    charged: charge.amount_cents,
                })
            }
        }
        (Event::RefundRequested(_), None | Some(Status::Closed | Status::Failed { .. })) => {
            Err(Refusal::NothingToRefund)
        }
        // The charge crossed the cancellation on its way: what the provider holds goes back.
        (Event::OrderCancelled(_), Some(Status::Charged(charge))) => Ok(Call::Refund(charge.clone())),
        (Event::OrderCancelled(_), None) => Ok(Call::Void),
        _ => Ok(Call::Nothing),
    }
}

/// Books `answer`, which the provider gave to what [`call`] asked for `event`.
pub fn decide(
    event: &Event,
    payment: Option<&Payment>,
    answer: Answer,
    now: DateTime<Utc>,
) -> Result<Outcome, Refusal> {
    let (order_id, order_version) = (event.order_id(), event.order_version());
    let (status, entries, said) = match (call(event, payment)?, answer) {
        (Call::Nothing, Answer::NotAsked) => return Ok(Outcome::NOTHING),
        (Call::Charge { amount_cents }, Answer::Charge(ChargeAnswer::Approved(reference))) => {
            let said = PaymentSuccess {
                order_id,
                order_version,
                amount_cents,
                provider_reference: reference.to_string(),
                // What pays is nobody else's business; what is for tests concerns later steps, too.
                payment_token: token(event)
                    .filter(|token| TestToken::parse(token).is_some())
                    .map(str::to_owned),
            };
            let entry = Booking { kind: Kind::Charge, amount_cents, reference: reference.clone(), at: now };
            (Status::Charged(Charge { amount_cents, reference }), vec![entry], said.into())
        }
        (Call::Charge { .. }, Answer::Charge(ChargeAnswer::Declined { reason })) => {
            let said = PaymentFailed { order_id, order_version, reason: reason.clone() };
            (Status::Failed { reason }, Vec::new(), said.into())
        }
        (Call::Refund(charge), Answer::Refund(reference)) => {
            let amount_cents = charge.amount_cents;
            let provider_reference = reference.to_string();
            let said = PaymentRefunded { order_id, order_version, amount_cents, provider_reference };
            let entry = Booking { kind: Kind::Refund, amount_cents, reference, at: now };
            (Status::Refunded(charge), vec![entry], said.into())
        }
        (Call::Void, Answer::Void(VoidAnswer::Nothing)) => {
            (Status::Closed, Vec::new(), PaymentVoided { order_id, order_version }.into())
        }
        // It had been charged, and nobody here knew: both ways of the money are booked.
        (Call::Void, Answer::Void(VoidAnswer::Returned { amount_cents, charge, refund })) => {
            let provider_reference = refund.to_string();
            let said = PaymentRefunded { order_id, order_version, amount_cents, provider_reference };
            let entries = vec![
                Booking { kind: Kind::Charge, amount_cents, reference: charge.clone(), at: now },
                Booking { kind: Kind::Refund, amount_cents, reference: refund, at: now },
            ];
            (Status::Refunded(Charge { amount_cents, reference: charge }), entries, said.into())
        }
        _ => return Err(Refusal::StateMoved),
    };
    let mut unsaved = payment.map_or_else(Vec::new, |payment| payment.unsaved.clone());
    unsaved.extend(entries);
    let order_version = payment.map_or(order_version, |payment| payment.order_version.max(order_version));
    Ok(Outcome {
        payment: Some(Payment { status, order_version, updated_at: now, unsaved }),
        event: Some(said),
    })
}

/// Why `event` comes to nothing when the payment stands at `payment`, for whoever has put it back.
pub fn moot(event: &Event, payment: Option<&Payment>) -> Option<&'static str> {
    match (event, &payment?.status) {
        (Event::OrderCreated(_), Status::Closed) => Some("the order is CANCELLED: it is closed to charges"),
        (Event::OrderCreated(_), Status::Refunded(_)) => Some("the order was charged and refunded before"),
        (Event::OrderCreated(_), Status::Charged(_)) => Some("the order was charged before"),
        (Event::OrderCreated(_), Status::Failed { .. }) => Some("the payment was declined before"),
        (Event::RefundRequested(_) | Event::OrderCancelled(_), Status::Refunded(_)) => {
            Some("the order was refunded before")
        }
        (Event::OrderCancelled(_), Status::Closed | Status::Failed { .. }) => {
            Some("nothing is held of the order")
        }
        _ => None,
    }
}

/// How the customer pays.
pub fn token(event: &Event) -> Option<&str> {
    match event {
        Event::OrderCreated(order) => order.payment_token.as_deref(),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
