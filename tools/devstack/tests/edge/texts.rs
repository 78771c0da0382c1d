//! What stands in a record does not stand in logs and errors, and no line is long.

use std::{fs, path::PathBuf, time::Instant};

use anyhow::{Result, ensure};
use contracts::topics::{DELIVERY_GROUP, ORDERS, PAYMENTS_GROUP};
use devstack::{
    testing::{self, SOON, Trial},
    topology::Role,
};
use uuid::Uuid;

use crate::SETTINGS;

const MAX_LINE: usize = 4_096;
/// A card number that stands in each of these records.
const SECRET: &str = "4111111111111111";
/// So much of it is no chance: four digits of it are in one of a few hundred ids.
const PART: &str = "41111111";

fn created(correlation: &str, token: &str, version: &str) -> String {
    let (event, order) = (Uuid::new_v4(), Uuid::new_v4());
    format!(
        r#"{{"event_id":"{event}","event_type":"ORDER_CREATED","version":{version},"occurred_at":"2026-09-21T14:13:20Z",
            "correlation_id":"{correlation}","payload":{{"order_id":"{order}","order_version":1,"customer_id":"c",
            "item":"pizza","quantity":1,"amount_cents":5,"payment_token":{token}}}}}"#
    )
}

fn logs(trial: &Trial) -> [PathBuf; 2] {
    [Role::Payments, Role::Delivery].map(|role| trial.stack.log(role, 1))
}

/// Lines that tell of dead letters, and the longest of all.
fn told(log: &PathBuf, from: usize) -> Result<(usize, usize)> {
    let bytes = fs::read(log)?;
    let text = String::from_utf8_lossy(bytes.get(from..).unwrap_or_default());
    let longest = text.lines().map(str::len).max().unwrap_or_default();
    Ok((text.lines().filter(|line| line.contains(r#""message":"dead letter""#)).count(), longest))
}

#[test]
fn no_value_of_a_record_is_in_an_error_and_no_line_is_long() -> Result<()> {
    testing::run(SETTINGS, async |trial| {
        let before = logs(trial).map(|log| fs::metadata(log).map_or(0, |log| log.len()));
        let long = SECRET.repeat(37_500);
        let mut bodies = vec![
            (created("c", SECRET, "1"), "payment_token"),
            (created("c", "null", &format!("\"{long}\"")), "version"),
            (created(&long, "\"tok_flaky_2\"", "1"), "correlation_id"),
            (created("c", &format!("\"{SECRET}\\u0000\""), "1"), "payment_token"),
        ];
        // More of a kind than the log takes of other lines.
        bodies.extend((0..12).map(|_| (created("c", SECRET, "1"), "payment_token")));
        for (body, field) in &bodies {
            let key = format!("edge-{}", Uuid::new_v4());
            trial.publish(ORDERS, &key, Some(body.as_bytes())).await?;
            for group in [PAYMENTS_GROUP, DELIVERY_GROUP] {
                let letter = trial.dead(group, &key).await?;
                let error = &letter.error;
                ensure!(error.contains(&format!("`{field}`")) && !error.contains(PART), "{group}: {error}");
            }
        }
        for (log, from) in logs(trial).into_iter().zip(before) {
            let (from, start) = (usize::try_from(from)?, Instant::now());
            loop {
                let (letters, longest) = told(&log, from)?;
                ensure!(longest <= MAX_LINE, "a line of {longest} bytes in {}", log.display());
                if letters >= bodies.len() {
                    break;
                }
                ensure!(start.elapsed() < SOON, "{letters} of {} letters in {}", bodies.len(), log.display());
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            }
            let text = String::from_utf8_lossy(&fs::read(&log)?[from..]).into_owned();
            ensure!(!text.contains(PART), "a value of a record is in {}", log.display());
        }
        Ok(())
    })
}
