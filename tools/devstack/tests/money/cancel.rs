//! An order that is cancelled, or over its time, at every stage of its way.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use contracts::topics::PAYMENTS_GROUP;
use devstack::{
    clients::gateway::Order,
    money,
    servers::postgres::connect,
    testing::{self, SOON, Trial},
    topology::Role,
};
use serde_json::Value;
use uuid::Uuid;

use crate::SETTINGS;

const CENTS: i64 = 1_290;

/// Waits until an event is in the order's timeline.
async fn told(trial: &Trial, order: Uuid, event: &str) -> Result<Order> {
    let start = Instant::now();
    loop {
        let shown = trial.gateway.order(order).await?;
        if shown.events().contains(&event) {
            return Ok(shown);
        }
        ensure!(start.elapsed() < SOON, "no {event} in {:?}", shown.events());
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
}

/// Nobody is sent from now on, or everybody may be again.
async fn couriers(trial: &Trial, there: bool) -> Result<()> {
    let delivery = connect(trial.stack.url("DELIVERY_DATABASE_URL")?).await?;
    let capacity =
        if there { "update couriers set capacity = 250" } else { "update couriers set capacity = load" };
    delivery.execute(capacity, &[]).await?;
    Ok(())
}

/// An order that is PAID and waits for a courier.
async fn paid(trial: &Trial, token: &str) -> Result<Uuid> {
    couriers(trial, false).await?;
    let order = trial.gateway.place(token, CENTS).await?;
    trial.gateway.until(order, "PAID", SOON).await?;
    Ok(order)
}

/// Everything has come to rest, and ledger, provider and orders agree.
async fn at_rest(trial: &Trial) -> Result<()> {
    couriers(trial, true).await?;
    trial.totals("at rest", |totals| totals.unfinished() == 0 && totals.wrong().is_empty()).await?;
    let report = money::run(&trial.stack, Duration::ZERO).await?;
    ensure!(report.is_clean(), "{report}");
    Ok(())
}

#[test]
fn a_delivered_order_cannot_be_cancelled_and_a_declined_one_is_cancelled_already() -> Result<()> {
    testing::run(SETTINGS, async |trial| {
        let delivered = trial.gateway.place("tok_ok", CENTS).await?;
        trial.gateway.until(delivered, "COMPLETED", SOON).await?;
        let (status, said) = trial.gateway.cancel(delivered).await?;
        ensure!(
            status == 409 && said["detail"].as_str().is_some_and(|text| text.contains("COMPLETED")),
            "{said}"
        );
        let declined = trial.gateway.place("tok_declined", CENTS).await?;
        trial.gateway.until(declined, "CANCELLED", SOON).await?;
        let (status, said) = trial.gateway.cancel(declined).await?;
        ensure!(status == 200 && said["status"] == "CANCELLED", "{status}: {said}");
        ensure!(trial.gateway.cancel(Uuid::new_v4()).await?.0 == 404);
        at_rest(trial).await
    })
}

#[test]
fn what_was_paid_goes_back_once_and_nobody_is_sent_any_more() -> Result<()> {
    testing::run(SETTINGS, async |trial| {
        let order = paid(trial, "tok_ok").await?;
        let (status, said) = trial.gateway.cancel(order).await?;
        ensure!(status == 200 && said["status"] == "REFUNDING", "{status}: {said}");
        // Asked again while it goes back, and afterwards.
        ensure!(trial.gateway.cancel(order).await?.0 == 200);
        let ended = trial.gateway.until(order, "CANCELLED", SOON).await?;
        ensure!(ended.reason.as_deref() == Some("cancelled by the customer"), "{ended:?}");
        ensure!(trial.gateway.cancel(order).await?.0 == 200);
        ensure!(trial.ledger(order).await? == (1, 1));
        let asked = ended.events().into_iter().filter(|event| *event == "REFUND_REQUESTED").count();
        ensure!(asked == 1, "asked back {asked} times");
        at_rest(trial).await
    })
}

/// The provider has the money, and its answer never comes: nobody here knows.
#[test]
fn what_was_charged_without_an_answer_is_found_by_the_void() -> Result<()> {
    testing::run(SETTINGS, async |trial| {
        let order = trial.gateway.place("tok_late", CENTS).await?;
        let letter = trial.dead(PAYMENTS_GROUP, &order.to_string()).await?;
        ensure!((letter.class.as_str(), letter.state.as_str()) == ("exhausted", "open"), "{letter:?}");
        let shown = trial.gateway.stalled(order, SOON).await?;
        ensure!(shown["stalled"]["dead_letter_id"] == letter.id.as_str(), "{shown}");
        ensure!(
            shown["stalled"]["by"] == "payments" && shown["stalled"]["code"] == "provider-timeout",
            "{shown}"
        );
        let listed = trial.gateway.get("/orders?stalled=true").await?;
        let listed = listed["orders"].as_array().context("a list")?.iter();
        ensure!(listed.into_iter().any(|one| one["order_id"] == order.to_string().as_str()), "it is listed");
        let report = money::run(&trial.stack, Duration::ZERO).await?;
        let found: Vec<_> = report.differences.iter().map(|one| (one.order_id, one.difference)).collect();
        ensure!(found == [(order, "unbooked-charge")], "{report}");
        ensure!(trial.ledger(order).await? == (0, 0), "the ledger does not know");

        let (status, said) = trial.gateway.cancel(order).await?;
        ensure!(status == 200 && said["status"] == "CANCELLED" && said["stalled"].is_null(), "{said}");
        told(trial, order, "PAYMENT_REFUNDED").await?;
        ensure!(trial.ledger(order).await? == (1, 1), "both ways are booked");
        at_rest(trial).await?;

        // Its dead letter comes too late, and that is said.
        ensure!(
            requeued(trial, &letter.id).await?
                == ("ignored".into(), Some("the order was charged and refunded before".into()))
        );
        ensure!(trial.ledger(order).await? == (1, 1));
        at_rest(trial).await
    })
}

/// The last outcome of a letter that is put back, and its reason.
async fn requeued(trial: &Trial, letter: &str) -> Result<(String, Option<String>)> {
    let output = trial.inspector.run(&["requeue", letter, "--execute", "--wait", "--force"]).await?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.success(), "the inspector ended with {}: {said}", output.status);
    let shown = trial.inspector.json(&["show", letter]).await?;
    let history = shown.first().and_then(|letter| letter["history"].as_array()).context("no history")?;
    let last = history.iter().rfind(|line| line["outcome"].is_string()).context("no outcome")?;
    let text = |name: &str| last[name].as_str().map(str::to_owned);
    Ok((text("outcome").context("no outcome")?, text("reason")))
}

#[test]
fn a_dead_payment_is_put_back_after_the_cancel_and_nothing_is_charged() -> Result<()> {
    testing::run(SETTINGS, async |trial| {
        let order = trial.gateway.place("tok_poison", CENTS).await?;
        let letter = trial.dead(PAYMENTS_GROUP, &order.to_string()).await?;
        trial.gateway.stalled(order, SOON).await?;
        ensure!(trial.gateway.cancel(order).await?.0 == 200);
        let ended = told(trial, order, "PAYMENT_VOIDED").await?;
        ensure!(ended.status == "CANCELLED", "{ended:?}");
        let (outcome, reason) = requeued(trial, &letter.id).await?;
        let expected = "the order is CANCELLED: it is closed to charges";
        ensure!(
            (outcome.as_str(), reason.as_deref()) == ("ignored", Some(expected)),
            "{outcome}: {reason:?}"
        );
        let human = trial.inspector.run(&["show", &letter.id]).await?;
        ensure!(String::from_utf8_lossy(&human.stdout).contains(expected), "show says why");
        ensure!(trial.ledger(order).await? == (0, 0));
        at_rest(trial).await
    })
}

/// Retries are over after 3 s; those of money that has to go back are not.
#[test]
fn a_refund_is_tried_until_it_succeeds() -> Result<()> {
    const FAILURES: u64 = 40;
    testing::run(SETTINGS, async |trial| {
        let order = paid(trial, &format!("tok_refund_flaky_{FAILURES}")).await?;
        let start = Instant::now();
        ensure!(trial.gateway.cancel(order).await?.1["status"] == "REFUNDING");
        let most = most_attempts(trial, order).await?;
        trial.gateway.until(order, "CANCELLED", SOON).await?;
        ensure!(start.elapsed() > Duration::from_secs(4), "it failed for {:?} only", start.elapsed());
        ensure!(most > 20, "it was tried again {most} times");
        ensure!(trial.ledger(order).await? == (1, 1));
        let letters = trial.inspector.list(&["--key", &order.to_string()]).await?;
        ensure!(letters.is_empty(), "{letters:?}");
        at_rest(trial).await
    })
}

/// How often a parked event was tried, as `/parked` shows it while it waits.
async fn most_attempts(trial: &Trial, order: Uuid) -> Result<u64> {
    let url = format!("{}/parked", trial.stack.admin_url(Role::Payments, 1)?);
    let (start, mut most) = (Instant::now(), 0);
    loop {
        let parked: Value = reqwest::get(&url).await?.json().await?;
        let waiting = parked.as_array().with_context(|| format!("not a list: {parked}"))?;
        let waits = waiting.iter().find(|one| one["key"] == order.to_string().as_str());
        most = most.max(waits.and_then(|one| one["attempts"].as_u64()).unwrap_or(0));
        if most > 25 {
            return Ok(most);
        }
        if start.elapsed() > SOON {
            bail!("it was tried {most} times: {parked}");
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[test]
fn no_order_waits_for_longer_than_it_may() -> Result<()> {
    testing::run(SETTINGS, async |trial| {
        let with_money = paid(trial, "tok_ok").await?;
        let dead = trial.gateway.place("tok_late", CENTS).await?;
        trial.gateway.stalled(dead, SOON).await?;
        trial.stack.restart_with(Role::Orders, 1, &[("ORDER_TIMEOUT_S", "2")]).await?;
        for order in [with_money, dead] {
            let ended = trial.gateway.until(order, "CANCELLED", SOON).await?;
            ensure!(ended.reason.as_deref() == Some("timed out: not delivered within 2 s"), "{ended:?}");
            told(trial, order, "PAYMENT_REFUNDED").await?;
            ensure!(trial.ledger(order).await? == (1, 1));
        }
        trial.stack.restart_with(Role::Orders, 1, &[("ORDER_TIMEOUT_S", "900")]).await?;
        at_rest(trial).await
    })
}
