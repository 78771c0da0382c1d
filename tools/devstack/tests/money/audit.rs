//! `./dev audit --money` finds each kind of difference.

use std::time::Duration;

use anyhow::{Result, ensure};
use devstack::{
    money,
    servers::postgres::connect,
    testing::{self, SOON, Trial},
};
use uuid::Uuid;

use crate::SETTINGS;

/// What is done to an order, in which database, and what is found.
const DAMAGE: [(&str, &str, &str); 10] = [
    ("PAYMENTS", "delete from charges where order_id = $1", "unbooked-charge"),
    ("PAYMENTS", "delete from provider.charges where key = 'charge:' || $1::uuid::text", "unknown-charge"),
    (
        "PAYMENTS",
        "update provider.charges set refunded_at = now(), refund_reference = 're_x' where key = 'charge:' || $1::uuid::text",
        "unbooked-refund",
    ),
    (
        "PAYMENTS",
        "insert into charges select order_id, 'refund', amount_cents, 'refund:' || order_id, 're_x', now() from charges where order_id = $1",
        "unknown-refund",
    ),
    ("PAYMENTS", "update charges set kind = 'refund' where order_id = $1", "refund-without-charge"),
    ("PAYMENTS", "update charges set amount_cents = 1 where order_id = $1", "amount"),
    ("PAYMENTS", "update charges set provider_reference = 'ch_x' where order_id = $1", "reference"),
    ("ORDERS", "update orders set state = 'CANCELLED' where order_id = $1", "held"),
    ("ORDERS", "update orders set amount_cents = 7 where order_id = $1", "not-its-price"),
    ("ORDERS", "delete from orders where order_id = $1", "no-order"),
];

#[test]
fn each_kind_of_difference_is_found_and_nothing_else() -> Result<()> {
    testing::run(SETTINGS, async |trial| {
        let mut orders = Vec::new();
        for _ in 0..=DAMAGE.len() {
            let order = trial.gateway.place("tok_ok", 1_290).await?;
            trial.gateway.until(order, "COMPLETED", SOON).await?;
            orders.push(order);
        }
        trial.totals("at rest", |totals| totals.is_still()).await?;
        let clean = money::run(&trial.stack, Duration::ZERO).await?;
        ensure!(clean.is_clean() && clean.orders > 10 && clean.held_cents > 0, "{clean}");

        let databases = [
            ("ORDERS", trial.stack.url("ORDERS_DATABASE_URL")?),
            ("PAYMENTS", trial.stack.url("PAYMENTS_DATABASE_URL")?),
        ];
        let found = damage(trial, &databases, orders).await;
        restore(&databases).await?;
        found
    })
}

async fn damage(trial: &Trial, databases: &[(&str, &str)], mut orders: Vec<Uuid>) -> Result<()> {
    let unpaid = orders.pop().expect("one more");
    let mut expected: Vec<(Uuid, &str)> = vec![(unpaid, "unpaid")];
    for (order, (name, sql, found)) in orders.iter().zip(DAMAGE) {
        let (_, url) = databases.iter().find(|(database, _)| *database == name).expect("there is");
        let client = connect(url).await?;
        // The copy of a row is put back afterwards.
        for table in ["charges", "provider.charges", "orders"] {
            keep(&client, table).await?;
        }
        let changed = client.execute(sql, &[order]).await?;
        ensure!(changed == 1, "{found}: {changed} rows");
        expected.push((*order, found));
    }
    let payments = connect(databases[1].1).await?;
    for sql in [
        "delete from charges where order_id = $1",
        "delete from provider.charges where key = 'charge:' || $1::uuid::text",
    ] {
        payments.execute(sql, &[&unpaid]).await?;
    }
    let report = money::run(&trial.stack, Duration::ZERO).await?;
    let mut found: Vec<_> = report.differences.iter().map(|one| (one.order_id, one.difference)).collect();
    found.sort_unstable();
    expected.sort_unstable();
    // What the ledger does not have, nobody has paid for either.
    let twice = ["unbooked-charge", "refund-without-charge"];
    let also: Vec<_> = expected
        .iter()
        .filter(|(_, what)| twice.contains(what))
        .map(|(order, _)| (*order, "unpaid"))
        .collect();
    expected.extend(also);
    expected.sort_unstable();
    ensure!(found == expected, "found {found:?}\nexpected {expected:?}");
    ensure!(!report.is_clean() && report.to_string().contains("do not add up"), "{report}");
    Ok(())
}

/// Keeps what a table holds, if it is in this database and was not kept yet.
async fn keep(client: &tokio_postgres::Client, table: &str) -> Result<()> {
    let copy = format!("kept_{}", table.replace('.', "_"));
    let sql = format!(
        "do $$ begin if to_regclass('{table}') is not null and to_regclass('{copy}') is null
         then create table {copy} as select * from {table}; end if; end $$"
    );
    client.batch_execute(&sql).await?;
    Ok(())
}

async fn restore(databases: &[(&str, &str)]) -> Result<()> {
    for (_, url) in databases {
        let client = connect(url).await?;
        for table in ["charges", "provider.charges", "orders"] {
            let copy = format!("kept_{}", table.replace('.', "_"));
            let sql = format!(
                "do $$ begin if to_regclass('{copy}') is not null
                 then delete from {table}; insert into {table} select * from {copy}; drop table {copy}; end if; end $$"
            );
            client.batch_execute(&sql).await?;
        }
    }
    Ok(())
}
