//! A server or a service goes away under load. Every order ends, no order is charged twice, every offset is accounted for.

mod again;
mod load;
mod outages;
mod threads;

use std::time::Duration;

use anyhow::{Result, ensure};
use devstack::{testing, topology::Role};

use self::load::under_load;

#[test]
fn postgres_restarts_under_load() -> Result<()> {
    testing::run(load::SETTINGS, async |trial| {
        under_load(trial, async |stack| {
            ensure!(stack.stop(Role::Postgres, 1).await?, "PostgreSQL did not end when asked");
            stack.start(Role::Postgres, 1).await
        })
        .await
    })
}

#[test]
fn postgres_is_killed_under_load() -> Result<()> {
    testing::run(load::SETTINGS, async |trial| {
        under_load(trial, async |stack| {
            stack.kill(Role::Postgres, 1).await?;
            stack.start(Role::Postgres, 1).await
        })
        .await
    })
}

#[test]
fn redis_is_gone_for_a_while_under_load() -> Result<()> {
    testing::run(load::SETTINGS, async |trial| {
        under_load(trial, async |stack| {
            ensure!(stack.stop(Role::Redis, 1).await?, "Redis did not end when asked");
            // Not a wait for anything: for this long there is no Redis while orders come in.
            tokio::time::sleep(Duration::from_secs(2)).await;
            stack.start(Role::Redis, 1).await
        })
        .await
    })
}

#[test]
fn kafka_restarts_under_load() -> Result<()> {
    testing::run(load::SETTINGS, async |trial| {
        under_load(trial, async |stack| {
            ensure!(stack.stop(Role::Kafka, 1).await?, "Kafka did not end when asked");
            stack.start(Role::Kafka, 1).await
        })
        .await
    })
}

#[test]
fn payments_is_killed_under_load() -> Result<()> {
    testing::run(load::SETTINGS, async |trial| {
        under_load(trial, async |stack| {
            stack.kill(Role::Payments, 1).await?;
            stack.start(Role::Payments, 1).await
        })
        .await
    })
}
