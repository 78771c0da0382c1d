//! Records that are no events of ours, published straight to Kafka.

use anyhow::{Result, ensure};
use contracts::topics::{DELIVERY_GROUP, ORDERS, PAYMENTS_GROUP};
use devstack::testing::{self, Trial};
use uuid::Uuid;

use crate::SETTINGS;

/// Both groups that read `orders` meet every record of it.
const GROUPS: [&str; 2] = [PAYMENTS_GROUP, DELIVERY_GROUP];

fn envelope(event_type: &str, version: u32, payload: &str) -> Vec<u8> {
    format!(
        r#"{{"event_id":"{}","event_type":"{event_type}","version":{version},"occurred_at":"2026-09-21T14:13:20Z",
            "correlation_id":"edge","causation_id":null,"payload":{payload}}}"#,
        Uuid::new_v4()
    )
    .into_bytes()
}

fn created(version: u32) -> Vec<u8> {
    let order = Uuid::new_v4();
    let payload = format!(
        r#"{{"order_id":"{order}","order_version":1,"customer_id":"c","item":"pizza","quantity":1,"amount_cents":5}}"#
    );
    envelope("ORDER_CREATED", version, &payload)
}

/// The record becomes a dead letter of both groups that names its origin.
async fn dies(trial: &mut Trial, value: &[u8], class: &str, code: Option<&str>) -> Result<()> {
    let key = format!("edge-{}", Uuid::new_v4());
    let place = trial.publish(ORDERS, &key, Some(value)).await?;
    for group in GROUPS {
        let letter = trial.dead(group, &key).await?;
        ensure!(letter.class == class, "{group}: {letter:?}");
        ensure!(code.is_none() || letter.error_code.as_deref() == code, "{group}: {letter:?}");
        ensure!((letter.partition, letter.offset) == (Some(place.0), Some(place.1)), "{group}: {letter:?}");
        ensure!(letter.topic.as_deref() == Some(ORDERS) && !letter.error.is_empty(), "{group}: {letter:?}");
        let totals = trial.read_past(group, ORDERS, place).await?;
        ensure!(totals.unaccounted() == 0, "{totals}");
    }
    Ok(())
}

/// The record is counted as ignored by both groups, and is no dead letter.
async fn is_ignored(trial: &mut Trial, value: Option<&[u8]>) -> Result<()> {
    let key = format!("edge-{}", Uuid::new_v4());
    let before = trial.totals("still", |totals| totals.is_still()).await?;
    let place = trial.publish(ORDERS, &key, value).await?;
    for group in GROUPS {
        let totals = trial.read_past(group, ORDERS, place).await?;
        let ignored = |totals: &devstack::reconcile::Totals| {
            totals
                .lane(group, ORDERS, place.0)
                .and_then(|lane| lane.outcomes.get("ignored").copied())
                .unwrap_or_default()
        };
        ensure!(ignored(&totals) == ignored(&before) + 1, "{group} did not ignore it:\n{totals}");
        ensure!(totals.unaccounted() == 0, "{totals}");
        let letters = trial.inspector.list(&["--group", group, "--key", &key]).await?;
        ensure!(letters.is_empty(), "{letters:?}");
    }
    Ok(())
}

#[test]
fn bytes_that_are_no_json_are_poison() -> Result<()> {
    testing::run(SETTINGS, async |trial| dies(trial, b"\x00\xff no json", "poison", Some("not-json")).await)
}

#[test]
fn json_of_the_wrong_shape_is_poison() -> Result<()> {
    testing::run(SETTINGS, async |trial| {
        dies(trial, br#"{"hello":"world"}"#, "poison", Some("bad-envelope")).await?;
        let payload = envelope("ORDER_CREATED", 1, r#"{"order_id":7}"#);
        dies(trial, &payload, "poison", Some("bad-payload")).await
    })
}

#[test]
fn an_empty_value_is_poison() -> Result<()> {
    testing::run(SETTINGS, async |trial| dies(trial, b"", "poison", None).await)
}

#[test]
fn an_event_under_another_key_than_its_orders_is_poison() -> Result<()> {
    testing::run(SETTINGS, async |trial| {
        let key = format!("edge-{}", Uuid::new_v4());
        let place = trial.publish(ORDERS, &key, Some(&created(1))).await?;
        // Delivery does not want to know of it.
        let letter = trial.dead(PAYMENTS_GROUP, &key).await?;
        ensure!(letter.class == "poison" && letter.error_code.as_deref() == Some("wrong-key"), "{letter:?}");
        ensure!((letter.partition, letter.offset) == (Some(place.0), Some(place.1)), "{letter:?}");
        let totals = trial.read_past(DELIVERY_GROUP, ORDERS, place).await?;
        ensure!(totals.unaccounted() == 0, "{totals}");
        let charged = totals.charges.0 - totals.refunds.0;
        ensure!(charged == totals.orders_in("COMPLETED"), "it was charged: {totals}");
        Ok(())
    })
}

#[test]
fn another_version_is_permanent() -> Result<()> {
    testing::run(SETTINGS, async |trial| {
        dies(trial, &created(2), "permanent", Some("unsupported-version")).await
    })
}

#[test]
fn a_tombstone_is_ignored() -> Result<()> {
    testing::run(SETTINGS, async |trial| is_ignored(trial, None).await)
}

#[test]
fn an_unknown_event_type_is_ignored() -> Result<()> {
    testing::run(SETTINGS, async |trial| is_ignored(trial, Some(&envelope("ORDER_PRAISED", 9, "{}"))).await)
}
