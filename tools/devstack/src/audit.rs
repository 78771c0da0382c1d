//! The audit of a stack: every group of it, with the events that its services share.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use ::audit::{Audit, Bounds, Event, Scope};
use anyhow::{Context, Result, bail};
use contracts::{
    Envelope, Known, ParseError, Parsed,
    topics::{DELIVERY_GROUP, ORDERS_GROUP, PAYMENTS_GROUP, READERS},
};

use crate::{
    clients::topics::kafka,
    servers::postgres::connect,
    stack::Stack,
    topology::{DATABASES, KAFKA_BROKERS},
};

/// How long groups remember outcomes, unless they are told otherwise.
pub fn retention() -> Duration {
    actors::RetentionSettings::default().inbox
}

/// Audits every group of `stack`, whose servers must run. What is older than `retention`, the time for which the groups
/// remember outcomes, is not demanded.
///
/// # Errors
/// When a server does not answer. What is wrong with an offset is no error but a [`Problem`](::audit::Problem).
pub async fn run(stack: &Stack, retention: Duration) -> Result<Audit> {
    run_within(stack, retention, Bounds::default()).await
}

/// The same, with so much in memory.
///
/// # Errors
/// As [`run`].
pub async fn run_within(stack: &Stack, retention: Duration, bounds: Bounds) -> Result<Audit> {
    let started = Instant::now();
    let brokers = stack.url(KAFKA_BROKERS)?;
    let mut groups = Vec::new();
    // One after the other: each is bounded by the processor, and its time is its own.
    for (group, topics) in READERS {
        let scope = Scope {
            group: group.to_owned(),
            topics: topics.iter().map(|topic| (*topic).to_owned()).collect(),
            kafka: kafka(brokers),
            retention,
            event: Arc::new(event),
            bounds,
        };
        let audited = async { ::audit::audit(&scope, connect(stack.url(database(group)?)?).await?).await };
        groups.push(audited.await.with_context(|| format!("{group} cannot be audited"))?);
    }
    Ok(Audit::of(groups, started.elapsed().as_secs_f64()))
}

/// The event that a body holds.
fn event(body: &[u8]) -> Option<Event> {
    let known =
        |known: Known| Event { id: known.event_id, at_ms: None, correlation_id: Some(known.correlation_id) };
    match Envelope::parse(body) {
        Ok(Parsed::Event(event)) => Some(Event {
            id: event.event_id,
            at_ms: Some(event.occurred_at.timestamp_millis()),
            correlation_id: Some(event.correlation_id),
        }),
        Ok(Parsed::Unknown(unknown)) | Err(ParseError::UnsupportedVersion(unknown)) => Some(known(unknown)),
        Err(_) => None,
    }
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
