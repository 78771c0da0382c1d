//! The audit: whether every offset a group is past has an outcome, without believing a counter.
//!
//! The topics are read again and walked beside the journal, offset by offset (`walk`); what the journal says of a record
//! must be confirmed by a table or a topic that the journal is no part of: the inbox, `parked`, a dead letter, the ledger of
//! what was put back (`lookup`, `read`). It costs a read of everything the groups have read and a look-up of every outcome,
//! in memory that does not grow with them.
//!
//! A stack that runs meanwhile moves. The leases are read first and only what is below them is asked for; tables are asked
//! in the order in which records move through them, and what is missing is asked for again before it is reported.

mod group;
mod journal;
mod lookup;
mod problem;
mod read;
mod report;
mod visit;
mod walk;

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use contracts::topics::{DELIVERY_GROUP, ORDERS_GROUP, PAYMENTS_GROUP, READERS};

use self::group::Scope;
pub use self::{
    problem::{Kind, Problem},
    read::Cost,
    report::{Audit, GroupAudit},
};
use crate::{
    names::{DATABASES, KAFKA_BROKERS},
    stack::Stack,
};

/// How long groups remember outcomes, unless they are told otherwise.
pub fn retention() -> Duration {
    actors::RetentionSettings::default().inbox
}

/// Audits every group of `stack`, whose servers must run. What is older than `retention`, the time for which the groups
/// remember outcomes, is not demanded.
///
/// # Errors
/// When a server does not answer. What is wrong with an offset, also that its record cannot be read, is no error but a [`Problem`].
pub async fn run(stack: &Stack, retention: Duration) -> Result<Audit> {
    let started = Instant::now();
    let brokers = stack.url(KAFKA_BROKERS)?;
    let mut groups = Vec::new();
    // One after the other: each is bounded by the processor, and its time is its own.
    for (group, topics) in READERS {
        let database = stack.url(database(group)?)?;
        let scope = Scope { group, topics, brokers, database, retention };
        groups.push(group::audit(&scope).await.with_context(|| format!("{group} cannot be audited"))?);
    }
    Ok(Audit::of(groups, started.elapsed().as_secs_f64()))
}

/// The variable with the URL of a group's database.
fn database(group: &str) -> Result<&'static str> {
    let [orders, payments, delivery] = DATABASES;
    Ok(match group {
        ORDERS_GROUP => orders.variable,
        PAYMENTS_GROUP => payments.variable,
        DELIVERY_GROUP => delivery.variable,
        other => bail!("it is not known which database {other} has"),
    })
}
