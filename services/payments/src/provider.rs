//! What can be asked of a payment provider, and the simulation that stands in for one.

pub mod book;
pub mod simulated;
pub mod token;

use std::{fmt, future::Future};

use thiserror::Error;

pub use self::book::ListedCharge;

/// Takes and gives back money.
///
/// Every request names an idempotency key. Asked again with the same key, a provider gives the answer it gave before and
/// moves no more money: requests are repeated whenever an answer may have been lost.
pub trait PaymentProvider: Send + Sync + 'static {
    /// Takes money. A decline is an answer, not an error.
    fn charge(
        &self,
        request: ChargeRequest<'_>,
    ) -> impl Future<Output = Result<ChargeAnswer, ProviderError>> + Send;

    /// Gives all of a charge back; the answer is the provider's name for the refund.
    fn refund(
        &self,
        request: RefundRequest<'_>,
    ) -> impl Future<Output = Result<Reference, ProviderError>> + Send;

    /// Makes sure that nothing is held under a charge's key: gives back what was charged, and refuses charges that are still on their
    /// way. That there is nothing is an answer.
    fn void(
        &self,
        request: VoidRequest<'_>,
    ) -> impl Future<Output = Result<VoidAnswer, ProviderError>> + Send;

    /// The provider's own list of charges, in the order of their keys: at most `limit` of those after `after`.
    fn charges(
        &self,
        after: &str,
        limit: i64,
    ) -> impl Future<Output = Result<Vec<ListedCharge>, ProviderError>> + Send;
}

/// Which try of a request this is, counted durably.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Try {
    /// Failed tries before this one.
    pub failed: u32,
    /// Tries that took the process's actor down.
    pub crashed: u32,
}

/// A charge to make.
#[derive(Clone, Copy, Debug)]
pub struct ChargeRequest<'a> {
    /// The idempotency key.
    pub key: &'a str,
    /// How much, in cents.
    pub amount_cents: i64,
    /// How the customer pays.
    pub token: Option<&'a str>,
    /// Which try.
    pub attempt: Try,
}

/// A charge to give back.
#[derive(Clone, Copy, Debug)]
pub struct RefundRequest<'a> {
    /// The idempotency key.
    pub key: &'a str,
    /// The idempotency key that the charge was made with.
    pub charge_key: &'a str,
    /// How much, in cents: all of the charge.
    pub amount_cents: i64,
    /// The provider's name for the charge.
    pub charge: &'a Reference,
    /// Which try.
    pub attempt: Try,
}

/// A charge to be undone of which it is not known whether it was made.
#[derive(Clone, Copy, Debug)]
pub struct VoidRequest<'a> {
    /// The idempotency key it was asked for with.
    pub charge: &'a str,
    /// The idempotency key of what goes back, if anything does.
    pub refund: &'a str,
    /// Which try.
    pub attempt: Try,
}

/// What became of a void.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VoidAnswer {
    /// There is no charge under this key, and will be none.
    Nothing,
    /// There was one, and it was given back.
    Returned {
        /// How much, in cents.
        amount_cents: i64,
        /// The provider's name for the charge.
        charge: Reference,
        /// The provider's name for the refund.
        refund: Reference,
    },
}

/// What became of a charge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChargeAnswer {
    /// The provider holds the money.
    Approved(Reference),
    /// It never will.
    Declined {
        /// Why, for people.
        reason: String,
    },
}

/// The provider's name for a movement of money.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference(String);

impl Reference {
    /// A reference as the provider or the database gave it.
    pub fn new(reference: impl Into<String>) -> Self {
        Self(reference.into())
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A request without an answer.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum ProviderError {
    /// The provider could not be reached at all: no payment's fault.
    #[error("{message}")]
    Unreachable {
        /// Stable, kebab-case.
        code: &'static str,
        /// For people.
        message: String,
    },
    /// The provider failed to answer, as a status of 500 or above says: its own fault where most requests end so.
    #[error("{message}")]
    Unavailable {
        /// Stable, kebab-case.
        code: &'static str,
        /// For people.
        message: String,
    },
    /// The provider answered that this try failed; the next may not.
    #[error("{message}")]
    Transient {
        /// Stable, kebab-case.
        code: &'static str,
        /// For people.
        message: String,
    },
    /// No try will ever succeed.
    #[error("{message}")]
    Permanent {
        /// Stable, kebab-case.
        code: &'static str,
        /// For people.
        message: String,
    },
}
