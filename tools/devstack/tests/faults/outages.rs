//! Something is gone for longer than a record is retried: nothing is buried, and every order ends.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use devstack::{
    clients::admin::Condition,
    servers::postgres::connect,
    stack::Stack,
    testing::{self, SOON, Trial},
    topology::Role,
};
use rand::seq::SliceRandom;
use rustix::process::Signal;
use uuid::Uuid;

use crate::load;

/// How long payments retries a record here.
const DEADLINE: Duration = Duration::from_secs(3);
const PAYMENTS: &str = "PAYMENTS_DATABASE_URL";
const DELIVERY: &str = "DELIVERY_DATABASE_URL";
/// A token without a meaning of its own: charged as the provider is told to.
const ORDINARY: &str = "card";

/// Starts payments anew, with a short deadline and a provider of which `share` of the tries fail.
async fn payments(trial: &mut Trial, share: &str) -> Result<()> {
    let deadline = DEADLINE.as_secs().to_string();
    let variables = [
        ("RETRY_DEADLINE_S", deadline.as_str()),
        ("RETRY_INITIAL_MS", "2000"),
        ("RETRY_MAX_MS", "2000"),
        ("PROVIDER_TRANSIENT_RATE", share),
        ("PROVIDER_DECLINE_RATE", "0"),
    ];
    trial.stack.restart_with(Role::Payments, 1, &variables).await
}

/// Does `work` with payments as [`payments`] starts it. Whatever came of it, the next test finds payments as it is by default.
async fn with_payments(
    trial: &mut Trial,
    share: &str,
    work: impl AsyncFnOnce(&mut Trial) -> Result<()>,
) -> Result<()> {
    let done = match payments(trial, share).await {
        Ok(()) => work(trial).await,
        failed => failed,
    };
    let defaults = [
        ("RETRY_DEADLINE_S", "1800"),
        ("RETRY_INITIAL_MS", "200"),
        ("RETRY_MAX_MS", "60000"),
        ("PROVIDER_TRANSIENT_RATE", "0"),
        ("PROVIDER_DECLINE_RATE", "0.2"),
    ];
    let restored = trial.stack.restart_with(Role::Payments, 1, &defaults).await;
    done.and(restored)
}

/// What waits for another attempt: how many, and for how many seconds the one that has waited longest.
async fn waiting(stack: &Stack, database: &str) -> Result<(i64, i64)> {
    let client = connect(stack.url(database)?).await?;
    let sql = "select count(*), coalesce(extract(epoch from now() - min(parked_at)), 0)::bigint from parked";
    let row = client.query_one(sql, &[]).await?;
    Ok((row.get(0), row.get(1)))
}

async fn until_waiting(stack: &Stack, database: &str, enough: impl Fn(i64, i64) -> bool) -> Result<()> {
    let start = Instant::now();
    loop {
        let (records, seconds) = waiting(stack, database).await?;
        if enough(records, seconds) {
            return Ok(());
        }
        ensure!(start.elapsed() < SOON, "{records} records wait, for {seconds} s at most");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn place(trial: &Trial, orders: usize, token: &str, gap: Duration) -> Result<Vec<Uuid>> {
    let mut placed = Vec::new();
    for _ in 0..orders {
        placed.push(trial.gateway.place(token, 1_000).await?);
        tokio::time::sleep(gap).await;
    }
    Ok(placed)
}

/// All of them are COMPLETED, and nothing is dead or without an outcome.
async fn all_complete(trial: &Trial, placed: &[Uuid]) -> Result<()> {
    let totals =
        trial.totals("at rest", |totals| totals.unfinished() == 0 && totals.wrong().is_empty()).await?;
    for order in placed {
        trial.gateway.until(*order, "COMPLETED", SOON).await?;
    }
    ensure!(totals.dead_letters.is_empty(), "an outage made dead letters: {:?}", totals.dead_letters);
    Ok(())
}

fn deadline() -> i64 {
    i64::try_from(DEADLINE.as_secs()).expect("short")
}

#[test]
fn a_provider_that_is_down_for_longer_than_a_record_is_retried_buries_nothing() -> Result<()> {
    testing::run(load::SETTINGS, async |trial| {
        with_payments(trial, "1", async |trial| {
            // As on a good day, and then as at night.
            let mut placed = place(trial, 60, ORDINARY, Duration::from_millis(50)).await?;
            let named = |said: &[Condition]| said.iter().any(|one| one.code == "provider-unavailable");
            trial.until_degraded(Role::Payments, "named", Duration::from_secs(15), named).await?;
            placed.extend(place(trial, 3, ORDINARY, Duration::from_secs(2)).await?);
            let long = |records, seconds| records == 63 && seconds > 2 * deadline();
            until_waiting(&trial.stack, PAYMENTS, long).await?;
            payments(trial, "0").await?;
            all_complete(trial, &placed).await
        })
        .await
    })
}

/// Every courier has room for so many orders.
async fn places(trial: &Trial, each: i32) -> Result<()> {
    let delivery = connect(trial.stack.url(DELIVERY)?).await?;
    delivery.execute("update couriers set capacity = $1", &[&each]).await?;
    Ok(())
}

#[test]
fn two_hundred_orders_wait_while_every_courier_is_busy() -> Result<()> {
    testing::run(load::SETTINGS, async |trial| {
        trial.totals("at rest", |totals| totals.courier_load == 0).await?;
        trial.until_degraded(Role::Delivery, "at rest", SOON, <[Condition]>::is_empty).await?;
        places(trial, 0).await?;
        let waited = async {
            let placed = place(trial, 200, "tok_ok", Duration::ZERO).await?;
            until_waiting(&trial.stack, DELIVERY, |records, seconds| records == 200 && seconds > 1).await?;
            // Nobody's fault: no server is gone, and no circuit opens.
            for _ in 0..10 {
                let degraded = trial.readyz(Role::Delivery).await?.degraded;
                ensure!(degraded.is_empty(), "delivery is degraded while couriers are busy: {degraded:?}");
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
            Ok(placed)
        };
        let waited: Result<Vec<Uuid>> = waited.await;
        // As the migration made them, whatever came of it.
        places(trial, 250).await?;
        all_complete(trial, &waited?).await
    })
}

/// Does `outage`, which lasts twice as long as a record is retried, while records wait for another attempt.
async fn outlasts(trial: &mut Trial, outage: impl AsyncFnOnce(&mut Trial) -> Result<()>) -> Result<()> {
    with_payments(trial, "0", async |trial| {
        let mut placed = place(trial, 20, "tok_ok", Duration::ZERO).await?;
        placed.extend(place(trial, 10, "tok_flaky_1", Duration::ZERO).await?);
        until_waiting(&trial.stack, PAYMENTS, |records, _| records > 0).await?;
        outage(trial).await?;
        all_complete(trial, &placed).await
    })
    .await
}

/// Who is gone for longer than a record is retried.
#[derive(Clone, Copy, Debug)]
enum Gone {
    Kafka,
    Payments,
    Postgres,
}

impl Gone {
    async fn happens(self, trial: &mut Trial) -> Result<()> {
        match self {
            Self::Kafka => {
                let kafka = trial.stack.process(Role::Kafka, 1)?;
                kafka.signal(Signal::STOP)?;
                tokio::time::sleep(2 * DEADLINE).await;
                kafka.signal(Signal::CONT)
            }
            Self::Payments => killed(trial, Role::Payments).await,
            Self::Postgres => killed(trial, Role::Postgres).await,
        }
    }
}

async fn killed(trial: &mut Trial, role: Role) -> Result<()> {
    trial.stack.kill(role, 1).await?;
    tokio::time::sleep(2 * DEADLINE).await;
    trial.stack.start(role, 1).await
}

/// One of them, drawn, in a plain run.
#[test]
fn whoever_is_gone_for_longer_than_a_record_is_retried_buries_nothing() -> Result<()> {
    testing::run(load::SETTINGS, async |trial| {
        let mut drawn = [Gone::Kafka, Gone::Payments, Gone::Postgres];
        drawn.shuffle(&mut rand::rng());
        let drawn = if load::all() { &drawn[..] } else { &drawn[..1] };
        for gone in drawn {
            println!("{gone:?} is gone for {:?}", 2 * DEADLINE);
            outlasts(trial, async |trial| gone.happens(trial).await).await?;
        }
        Ok(())
    })
}
