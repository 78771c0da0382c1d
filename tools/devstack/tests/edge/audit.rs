//! The audit: nothing is wrong with a mixture of orders, and what is taken away behind the services' backs is named.

use ::audit::{Audit, Bounds, GroupAudit, Kind};
use anyhow::{Context, Result, ensure};
use chrono::{DateTime, Utc};
use contracts::{
    Envelope, OrderCancelled,
    topics::{DELIVERY_GROUP, ORDERS, PAYMENTS_GROUP},
};
use devstack::{
    audit,
    os::paths,
    servers::postgres::connect,
    testing::{self, SOON, Trial},
    topology::KAFKA_BROKERS,
};
use tokio::process::Command;
use tokio_postgres::Client;
use uuid::Uuid;

use crate::SETTINGS;

const CENTS: i64 = 1_290;

async fn audited(trial: &Trial) -> Result<Audit> {
    audit::run(&trial.stack, audit::retention()).await
}

/// Everything is at rest, every offset that was consumed is proved, and nothing is wrong.
async fn clean(trial: &Trial) -> Result<Audit> {
    let totals = trial.totals("still", |totals| totals.is_still() && totals.unaccounted() == 0).await?;
    let audit = audited(trial).await?;
    ensure!(audit.is_clean() && audit.unprovable == 0, "{audit}");
    let consumed: i64 = totals.lanes.iter().map(|lane| lane.consumed).sum();
    ensure!(audit.proved == consumed, "{} of {consumed} offsets were proved: {audit}", audit.proved);
    // With room for one of each thing it asks, settles and goes on in the middle of every partition, and finds the same.
    let least = Bounds { records: 1, outcomes: 1, open: 1 };
    let bit_by_bit = audit::run_within(&trial.stack, audit::retention(), least).await?;
    let found = |audit: &Audit| -> Vec<_> {
        let of = |group: &GroupAudit| (group.outcomes.clone(), group.after_waiting.clone());
        audit.groups.iter().map(of).collect()
    };
    ensure!(found(&bit_by_bit) == found(&audit), "{audit}, and bit by bit {bit_by_bit}");
    ensure!(bit_by_bit.is_clean() && bit_by_bit.proved == consumed, "bit by bit: {bit_by_bit}");
    Ok(audit)
}

/// What the program says of payments, which knows nothing of this stack: its exit code, and what it prints.
async fn program(trial: &Trial, group: &str) -> Result<(Option<i32>, String)> {
    let (brokers, database) = (trial.stack.url(KAFKA_BROKERS)?, trial.stack.url("PAYMENTS_DATABASE_URL")?);
    let output = Command::new(paths::binaries()?.join("audit"))
        .args(["--brokers", brokers, "--database-url", database, "--group", group, "--topic", ORDERS])
        .output()
        .await?;
    let said = [output.stdout, output.stderr].concat();
    Ok((output.status.code(), String::from_utf8_lossy(&said).into_owned()))
}

/// There is one problem, with so many offsets of payments from that one on.
fn ensure_named(audit: &Audit, kind: Kind, place: (i32, i64), offsets: i64) -> Result<()> {
    let [problem] = audit.problems.as_slice() else { anyhow::bail!("there is not one problem: {audit}") };
    let topic = problem.topic.as_str();
    let named =
        (problem.kind, problem.group.as_str(), topic, problem.partition, problem.offset, problem.offsets);
    ensure!(named == (kind, PAYMENTS_GROUP, ORDERS, place.0, Some(place.1), offsets), "{audit}");
    ensure!(audit.to_string().contains(&format!("the first: {problem}")), "{audit}");
    Ok(())
}

/// An event that payments applies without charging anybody: its id, and where it is.
async fn cancelled(trial: &Trial) -> Result<(Uuid, (i32, i64))> {
    let order_id = Uuid::new_v4();
    let envelope = Envelope {
        event_id: Uuid::now_v7(),
        occurred_at: Utc::now(),
        correlation_id: "edge-audit".into(),
        causation_id: None,
        event: OrderCancelled { order_id, order_version: 2, reason: "edge".into() }.into(),
    };
    let place = trial.publish(ORDERS, &order_id.to_string(), Some(&envelope.to_json())).await?;
    for group in [PAYMENTS_GROUP, DELIVERY_GROUP] {
        trial.read_past(group, ORDERS, place).await?;
    }
    Ok((envelope.event_id, place))
}

/// Without its row in the inbox the event is named; the row is put back.
async fn inbox_row(trial: &Trial, payments: &Client, event: Uuid, place: (i32, i64)) -> Result<()> {
    let taken = "delete from inbox where consumer = $1 and event_id = $2
                 returning dead, generation, payload_hash, processed_at";
    let row = payments.query_one(taken, &[&PAYMENTS_GROUP, &event]).await.context("it was not applied")?;
    let audit = audited(trial).await?;
    let (code, said) = program(trial, PAYMENTS_GROUP).await?;
    let back = "insert into inbox (consumer, event_id, dead, generation, payload_hash, processed_at)
                values ($1, $2, $3, $4, $5, $6)";
    let (dead, generation): (bool, i32) = (row.get(0), row.get(1));
    let (hash, at): (i64, DateTime<Utc>) = (row.get(2), row.get(3));
    payments.execute(back, &[&PAYMENTS_GROUP, &event, &dead, &generation, &hash, &at]).await?;
    ensure_named(&audit, Kind::NotInInbox, place, 1)?;
    ensure!(code == Some(1) && said.contains(&event.to_string()), "{code:?}: {said}");
    let problem = &audit.problems[0];
    ensure!(problem.event_id == Some(event), "{audit}");
    ensure!(problem.correlation_id.as_deref() == Some("edge-audit"), "{audit}");
    Ok(())
}

/// Without its row in the journal the batch is named; the row is put back.
async fn journal_row(trial: &Trial, payments: &Client, place: (i32, i64)) -> Result<()> {
    let taken = "delete from offset_journal
                 where consumer = $1 and topic = $2 and partition = $3 and from_offset <= $4 and next_offset > $4
                 returning from_offset, next_offset, outcomes, at, epoch";
    let row = payments.query_one(taken, &[&PAYMENTS_GROUP, &ORDERS, &place.0, &place.1]).await?;
    let audit = audited(trial).await?;
    let (from, next, outcomes): (i64, i64, &str) = (row.get(0), row.get(1), row.get(2));
    let (at, epoch): (DateTime<Utc>, i64) = (row.get(3), row.get(4));
    let back = "insert into offset_journal (consumer, topic, partition, from_offset, next_offset, outcomes, at, epoch)
                values ($1, $2, $3, $4, $5, $6, $7, $8)";
    let values: [&(dyn tokio_postgres::types::ToSql + Sync); 8] =
        [&PAYMENTS_GROUP, &ORDERS, &place.0, &from, &next, &outcomes, &at, &epoch];
    payments.execute(back, &values).await?;
    ensure_named(&audit, Kind::NoOutcome, (place.0, from), next - from)
}

#[test]
fn the_audit_proves_every_offset_and_names_the_first_that_has_no_outcome() -> Result<()> {
    testing::run(SETTINGS, async |trial| {
        let poison = trial.publish(ORDERS, &format!("edge-{}", Uuid::new_v4()), Some(b"no json")).await?;
        let doomed = trial.gateway.place("tok_poison", CENTS).await?;
        let mut orders = vec![trial.gateway.place("tok_flaky_1", CENTS).await?];
        for _ in 0..10 {
            orders.push(trial.gateway.place("tok_ok", CENTS).await?);
        }
        let moving = audited(trial).await?;
        ensure!(moving.is_clean(), "while orders run: {moving}");
        for order in orders {
            trial.gateway.until(order, "COMPLETED", SOON).await?;
        }
        trial.dead(PAYMENTS_GROUP, &doomed.to_string()).await?;
        trial.read_past(PAYMENTS_GROUP, ORDERS, poison).await?;
        let (event, place) = cancelled(trial).await?;
        let audit = clean(trial).await?;
        println!("{audit}");
        let group = audit.groups.iter().find(|group| group.group == PAYMENTS_GROUP);
        let group = group.context("payments was not audited")?;
        for outcome in ["applied", "dead", "ignored"] {
            ensure!(group.outcomes.get(outcome).is_some_and(|count| *count > 0), "none {outcome}: {audit}");
        }
        // tok_flaky_1 was parked once, and is not shown as parked for ever.
        ensure!(group.after_waiting.get("applied").is_some_and(|count| *count > 0), "none waited: {audit}");
        ensure!(group.outcomes.get("parked").is_none_or(|count| *count == 0), "nothing waits: {audit}");
        ensure!(audit.to_string().contains(" after waiting)"), "{audit}");

        let payments = connect(trial.stack.url("PAYMENTS_DATABASE_URL")?).await?;
        inbox_row(trial, &payments, event, place).await?;
        journal_row(trial, &payments, place).await?;
        clean(trial).await?;
        // What it was not asked the right way it does not prove.
        let (code, said) = program(trial, DELIVERY_GROUP).await?;
        ensure!(code == Some(3) && said.contains("has no lease in this database"), "{code:?}: {said}");
        let (code, said) = program(trial, PAYMENTS_GROUP).await?;
        ensure!(code == Some(0) && said.contains("every offset has an outcome"), "{code:?}: {said}");
        Ok(())
    })
}
