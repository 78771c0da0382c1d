//! Every path a payment token can force.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use contracts::topics::{ORDERS, PARTITIONS, PAYMENTS_GROUP};
use devstack::{
    clients::topics::partition_of,
    testing::{self, SOON, Trial},
    topology::Role,
};
use serde_json::Value;
use uuid::Uuid;

use crate::SETTINGS;

const CENTS: i64 = 1_290;

/// The order ends in `state` with `charges` and `refunds` in the ledger; the types of its events.
async fn ends(trial: &mut Trial, token: &str, state: &str, ledger: (i64, i64)) -> Result<Vec<String>> {
    let id = trial.gateway.place(token, CENTS).await?;
    let order = trial.gateway.until(id, state, SOON).await?;
    let written = trial.ledger(id).await?;
    ensure!(written == ledger, "{token}: (charges, refunds) are {written:?}, not {ledger:?}");
    Ok(order.events().into_iter().map(str::to_owned).collect())
}

/// The payment of the order becomes a dead letter, nothing is charged, and orders of the same partition go on.
async fn dies(trial: &mut Trial, token: &str, class: &str) -> Result<()> {
    let id = trial.gateway.place(token, CENTS).await?;
    let letter = trial.dead(PAYMENTS_GROUP, &id.to_string()).await?;
    ensure!(letter.class == class && letter.state == "open", "{token}: {letter:?}");
    ensure!(letter.event_type.as_deref() == Some("ORDER_CREATED"), "{token}: {letter:?}");
    ensure!(trial.ledger(id).await? == (0, 0), "{token}: something was charged");
    let partition = |id: Uuid| partition_of(id.to_string().as_bytes(), PARTITIONS);
    ensure!(letter.topic.as_deref() == Some(ORDERS) && letter.partition == Some(partition(id)), "{letter:?}");
    loop {
        let behind = trial.gateway.place("tok_ok", CENTS).await?;
        trial.gateway.until(behind, "COMPLETED", SOON).await?;
        if partition(behind) == partition(id) {
            return Ok(());
        }
    }
}

#[test]
fn ok_is_completed() -> Result<()> {
    testing::run(SETTINGS, async |trial| {
        let events = ends(trial, "tok_ok", "COMPLETED", (1, 0)).await?;
        ensure!(
            events == ["ORDER_CREATED", "PAYMENT_SUCCESS", "DELIVERY_ASSIGNED", "ORDER_COMPLETED"],
            "{events:?}"
        );
        Ok(())
    })
}

#[test]
fn declined_is_cancelled_without_a_courier() -> Result<()> {
    testing::run(SETTINGS, async |trial| {
        let events = ends(trial, "tok_declined", "CANCELLED", (0, 0)).await?;
        ensure!(events == ["ORDER_CREATED", "PAYMENT_FAILED", "ORDER_CANCELLED"], "{events:?}");
        Ok(())
    })
}

#[test]
fn flaky_is_completed_after_retries() -> Result<()> {
    testing::run(SETTINGS, async |trial| ends(trial, "tok_flaky_2", "COMPLETED", (1, 0)).await.map(drop))
}

#[test]
fn a_crash_is_survived() -> Result<()> {
    testing::run(SETTINGS, async |trial| ends(trial, "tok_crash_once", "COMPLETED", (1, 0)).await.map(drop))
}

#[test]
fn no_courier_is_refunded_and_cancelled() -> Result<()> {
    testing::run(SETTINGS, async |trial| {
        let events = ends(trial, "tok_no_courier", "CANCELLED", (1, 1)).await?;
        for event in
            ["PAYMENT_SUCCESS", "DELIVERY_FAILED", "REFUND_REQUESTED", "PAYMENT_REFUNDED", "ORDER_CANCELLED"]
        {
            ensure!(events.iter().any(|one| one == event), "no {event} in {events:?}");
        }
        Ok(())
    })
}

#[test]
fn poison_is_a_permanent_dead_letter() -> Result<()> {
    testing::run(SETTINGS, async |trial| dies(trial, "tok_poison", "permanent").await)
}

#[test]
fn a_provider_that_stays_down_exhausts_the_retries() -> Result<()> {
    testing::run(SETTINGS, async |trial| dies(trial, "tok_down", "exhausted").await)
}

#[test]
fn an_endless_crasher_is_dead_as_crash() -> Result<()> {
    testing::run(SETTINGS, async |trial| dies(trial, "tok_crash", "crash").await)
}

/// What a log says of one conversation: the messages, and the keys they are about.
fn said(log: &Path, correlation: &str) -> Result<Vec<(String, Value)>> {
    let text = String::from_utf8_lossy(&fs::read(log)?).into_owned();
    let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let of = lines.filter(|line| line["correlation_id"] == correlation);
    Ok(of.map(|line| (line["message"].as_str().unwrap_or_default().to_owned(), line)).collect())
}

#[test]
fn an_order_has_a_line_when_it_is_placed_and_one_when_it_has_ended() -> Result<()> {
    testing::run(SETTINGS, async |trial| {
        for (token, state, ended) in [
            ("tok_ok", "COMPLETED", "order completed"),
            ("tok_no_courier", "CANCELLED", "order cancelled"),
            ("tok_declined", "CANCELLED", "order cancelled"),
        ] {
            let correlation = format!("lines-{}", Uuid::new_v4());
            let id = trial.gateway.place_as(token, CENTS, &correlation).await?;
            trial.gateway.until(id, state, SOON).await?;
            // It is said after the commit by which it is seen.
            let (log, started) = (trial.stack.log(Role::Orders, 1), Instant::now());
            let lines = loop {
                let lines = said(&log, &correlation)?;
                if lines.len() >= 2 || started.elapsed() > SOON {
                    break lines;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            };
            let messages: Vec<&str> = lines.iter().map(|(message, _)| message.as_str()).collect();
            ensure!(messages == ["order placed", ended], "{token}: {messages:?}");
            let last = &lines[1].1;
            ensure!(
                last["key"] == id.to_string() && last["offset"].is_i64() && last["event_id"].is_string(),
                "{last}"
            );
            ensure!(last["topic"].is_string() && last["partition"].is_i64(), "{last}");
        }
        Ok(())
    })
}
