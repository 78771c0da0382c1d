//! Does the ledger agree with the provider's own list of charges? What they say of each order, and where they differ.

mod watch;

use std::{collections::BTreeMap, fmt, time::Duration};

use actors::{
    Cause,
    connection::{Connection, Limits, Trouble},
};
use chassis::database::{Database, DatabaseError, TlsFiles};
use chrono::{DateTime, Utc};
use deadpool_postgres::Pool;
use serde::Serialize;
use uuid::Uuid;

pub use self::watch::watch;
use crate::{
    domain::Kind,
    provider::{
        ListedCharge, PaymentProvider, ProviderError, Reference,
        book::Book,
        simulated::{Simulated, SimulatedSettings},
    },
    store,
};

/// Charges of the provider that are looked at together.
const PAGE: i64 = 1_000;

/// Lines of the ledger about one order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Booked {
    /// What was charged: cents, and the provider's name for it.
    pub charge: Option<(i64, Reference)>,
    /// What was given back, likewise.
    pub refund: Option<(i64, Reference)>,
}

/// What both say of one order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Money {
    /// Our ledger.
    pub booked: Booked,
    /// The provider's list.
    pub listed: Option<ListedCharge>,
}

impl Money {
    /// Cents that the provider holds of the order.
    pub fn held(&self) -> i64 {
        let listed = self.listed.as_ref().filter(|listed| listed.refund.is_none());
        listed.map_or(0, |listed| listed.amount_cents)
    }

    /// Where the two differ, if they do. What the provider has done after `settled` may be booked in a moment.
    pub fn difference(&self, settled: DateTime<Utc>) -> Option<Difference> {
        let Booked { charge, refund } = &self.booked;
        match (charge, refund, &self.listed) {
            (None, Some(_), _) => Some(Difference::RefundWithoutCharge),
            (None, None, None) => None,
            (None, None, Some(listed)) if listed.changed_at > settled => None,
            (None, None, Some(_)) => Some(Difference::UnbookedCharge),
            (Some(_), _, None) => Some(Difference::UnknownCharge),
            (Some((cents, reference)), refund, Some(listed)) => {
                let refunds = (refund.as_ref().map(|(_, reference)| reference), listed.refund.as_ref());
                match refunds {
                    _ if *cents != listed.amount_cents => Some(Difference::Amount),
                    _ if refund.as_ref().is_some_and(|(back, _)| back != cents) => Some(Difference::Amount),
                    _ if *reference != listed.reference => Some(Difference::Reference),
                    (None, Some(_)) if listed.changed_at > settled => None,
                    (None, Some(_)) => Some(Difference::UnbookedRefund),
                    (Some(_), None) => Some(Difference::UnknownRefund),
                    (ours, theirs) if ours != theirs => Some(Difference::Reference),
                    _ => None,
                }
            }
        }
    }
}

/// How ledger and provider differ about an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Difference {
    /// The provider has charged, and the ledger does not know.
    UnbookedCharge,
    /// The provider has given back, and the ledger does not know.
    UnbookedRefund,
    /// The ledger has a charge that the provider does not have.
    UnknownCharge,
    /// The ledger has a refund that the provider does not have.
    UnknownRefund,
    /// The ledger has a refund of what was never charged.
    RefundWithoutCharge,
    /// Another number of cents.
    Amount,
    /// Another name for the same.
    Reference,
}

impl Difference {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::UnbookedCharge,
        Self::UnbookedRefund,
        Self::UnknownCharge,
        Self::UnknownRefund,
        Self::RefundWithoutCharge,
        Self::Amount,
        Self::Reference,
    ];

    /// The word in metrics and reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::UnbookedCharge => "unbooked-charge",
            Self::UnbookedRefund => "unbooked-refund",
            Self::UnknownCharge => "unknown-charge",
            Self::UnknownRefund => "unknown-refund",
            Self::RefundWithoutCharge => "refund-without-charge",
            Self::Amount => "amount",
            Self::Reference => "reference",
        }
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::UnbookedCharge => "the provider has charged it, and the ledger does not know",
            Self::UnbookedRefund => "the provider has given it back, and the ledger does not know",
            Self::UnknownCharge => "the ledger has a charge that the provider does not have",
            Self::UnknownRefund => "the ledger has a refund that the provider does not have",
            Self::RefundWithoutCharge => "the ledger has a refund without a charge",
            Self::Amount => "ledger and provider have different amounts",
            Self::Reference => "ledger and provider have different names for the same money",
        })
    }
}

/// The simulated provider's list and the ledger beside it, in the database at `url`, for whoever looks at them from outside.
///
/// # Errors
/// When the URL is malformed.
pub fn open(url: &str) -> Result<(Simulated, Pool), DatabaseError> {
    let pool = Database::new(url, "money-audit", &TlsFiles::default())?.pool(2)?;
    // It is not asked for anything but its list.
    let settings = SimulatedSettings::default();
    Ok((Simulated::new(settings, Some(Book::new(pool.clone()))), pool))
}

/// Some orders with all that both know of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// By order.
    pub orders: BTreeMap<Uuid, Money>,
    /// The last order that was looked at; there are others after it. `None` at the end.
    pub next: Option<Uuid>,
}

/// What both say of the orders after `after`.
///
/// # Errors
/// When the database or the provider does not answer, or the provider keeps no list.
pub async fn page<P: PaymentProvider>(provider: &P, pool: &Pool, after: Uuid) -> Result<Page, Cause> {
    // The ledger first: what is booked was listed before. What is listed meanwhile is young.
    let booked = async {
        let connection = Connection::get(pool).await?;
        connection.read(&Limits::default(), store::ledger(&*connection, after, PAGE)).await
    };
    let (booked, more_booked) = booked.await.map_err(|trouble: Trouble| trouble.cause())?;
    let listed = provider.charges(&Kind::Charge.provider_key(after), PAGE).await.map_err(unlisted)?;
    let more_listed = i64::try_from(listed.len()).is_ok_and(|listed| listed >= PAGE);
    // What is under another key is nobody's order here.
    let listed: Vec<_> =
        listed.into_iter().filter_map(|charge| Some((Kind::Charge.order_of(&charge.key)?, charge))).collect();
    // Beyond the end of a page that goes on nothing is known of one side.
    let ends = [
        listed.last().map(|(order, _)| *order).filter(|_| more_listed),
        booked.last().map(|(order, _)| *order).filter(|_| more_booked),
    ];
    let next = ends.into_iter().flatten().min();
    let mut orders: BTreeMap<Uuid, Money> = BTreeMap::new();
    for (order, charge) in listed {
        orders.entry(order).or_default().listed = Some(charge);
    }
    for (order, booked) in booked {
        orders.entry(order).or_default().booked = booked;
    }
    if let Some(next) = next {
        orders.retain(|order, _| *order <= next);
    }
    Ok(Page { orders, next })
}

fn unlisted(error: ProviderError) -> Cause {
    let (code, message) = match error {
        ProviderError::Unreachable { code, message }
        | ProviderError::Unavailable { code, message }
        | ProviderError::Transient { code, message }
        | ProviderError::Permanent { code, message } => (code, message),
    };
    Cause::new(code, message)
}

/// Orders over which both differ, by how, of those placed after `after`.
///
/// # Errors
/// As [`page`].
pub async fn differences<P: PaymentProvider>(
    provider: &P,
    pool: &Pool,
    after: Uuid,
    grace: Duration,
) -> Result<BTreeMap<Difference, u64>, Cause> {
    let settled = Utc::now() - grace;
    let mut found = BTreeMap::new();
    let mut after = after;
    loop {
        let Page { orders, next } = page(provider, pool, after).await?;
        for difference in orders.values().filter_map(|money| money.difference(settled)) {
            *found.entry(difference).or_default() += 1;
        }
        match next {
            Some(next) => after = next,
            None => return Ok(found),
        }
    }
}

#[cfg(test)]
mod tests;
