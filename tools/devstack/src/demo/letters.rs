//! Steps 5 and 6: what cannot succeed goes to the dead letters, and comes back once its cause is gone.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use contracts::topics::{ORDERS, PAYMENTS_GROUP};
use serde_json::Value;
use uuid::Uuid;

use super::stage::{Demo, SOON, proved, timeline};
use crate::{
    clients::{inspector::DeadLetter, topics},
    servers::postgres::connect,
    topology::Role,
};

/// What the provider charges at most, until step 6 raises it.
pub(super) const LIMIT_CENTS: &str = "1000000";
/// Above the provider's limit until that is raised to [`RAISED`].
const LARGE: i64 = 2_500_000;
pub(super) const RAISED: &str = "5000000";
const NO_JSON: &[u8] = b"\x00 this is no JSON";

impl Demo {
    pub(super) async fn poison(&mut self) -> Result<()> {
        self.heading("Dead letters: bytes that are no JSON, and a payment that can never succeed");
        let key = format!("no-order-{}", Uuid::new_v4());
        let (partition, offset) = topics::publish(&self.brokers, ORDERS, &key, Some(NO_JSON)).await?;
        println!(
            "   published 17 bytes that are no JSON to {ORDERS}, partition {partition}, offset {offset}"
        );
        let id = self.gateway.place("tok_poison", 1_290).await?;
        println!("   placed order {id} with tok_poison");
        let bytes = self.dead(&key, &[]).await?;
        ensure!(
            bytes.class == "poison" && (bytes.partition, bytes.offset) == (Some(partition), Some(offset)),
            "the bytes are listed as {bytes:?}"
        );
        let payment = self.dead(&id.to_string(), &[]).await?;
        ensure!(
            payment.class == "permanent" && payment.offset.is_some(),
            "the payment is listed as {payment:?}"
        );
        self.print(&["list"]).await?;
        proved("both are listed with their class, their error and the offset they came from");
        Ok(())
    }

    pub(super) async fn requeue(&mut self) -> Result<()> {
        self.heading("A dead letter put back, once its cause is gone");
        let id = self.gateway.place("tok_ok", LARGE).await?;
        println!(
            "   placed order {id} of {LARGE} cents; the provider has begun to take at most {LIMIT_CENTS}"
        );
        let letter = self.dead(&id.to_string(), &["--state", "open"]).await?;
        println!("   dead: {} ({})", letter.class, letter.error);
        let order = self.gateway.stalled(id, SOON).await?;
        ensure!(
            order["stalled"]["dead_letter_id"] == letter.id.as_str(),
            "the order shows {}",
            order["stalled"]
        );
        println!("   GET /orders/{id} says: \"stalled\": {}", order["stalled"]);
        println!("   payments is restarted with PROVIDER_MAX_AMOUNT_CENTS={RAISED}");
        self.stack.restart_with(Role::Payments, 1, &[("PROVIDER_MAX_AMOUNT_CENTS", RAISED)]).await?;

        let short = &letter.id[..8];
        self.print(&["requeue", short]).await?;
        ensure!(self.charges(id).await? == 0, "the plan alone charged the order");
        self.print(&["requeue", short, "--execute", "--wait"]).await?;
        let outcome = self.outcome(&letter.id).await?;
        ensure!(outcome == "applied", "the outcome is {outcome}, not applied");
        let order = self.gateway.until(id, "COMPLETED", SOON).await?;
        timeline(&order);
        let state = self.dead(&id.to_string(), &[]).await?.state;
        ensure!(state == "resolved", "the letter is {state}, not resolved");
        proved("applied, the letter is resolved, the order COMPLETED");

        self.print(&["requeue", short, "--execute", "--wait", "--force"]).await?;
        let outcome = self.outcome(&letter.id).await?;
        ensure!(outcome == "already-applied", "the second outcome is {outcome}, not already-applied");
        let charges = self.charges(id).await?;
        ensure!(charges == 1, "the order has {charges} charges, not one");
        proved("requeued again: already applied, and still one charge");
        Ok(())
    }

    /// Waits for the dead letter of payments whose record has `key`.
    async fn dead(&self, key: &str, selectors: &[&str]) -> Result<DeadLetter> {
        let start = Instant::now();
        let words: Vec<&str> =
            ["--group", PAYMENTS_GROUP, "--key", key].into_iter().chain(selectors.iter().copied()).collect();
        loop {
            if let Some(letter) = self.inspector.list(&words).await?.pop() {
                return Ok(letter);
            }
            if start.elapsed() > SOON {
                bail!("no dead letter with key {key} after {SOON:?}");
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Runs the inspector as an operator does and prints what it says.
    async fn print(&self, arguments: &[&str]) -> Result<()> {
        println!("   $ dlq-inspector {}", arguments.join(" "));
        let output = self.inspector.run(arguments).await?;
        let said = [output.stdout, output.stderr].concat();
        String::from_utf8_lossy(&said).lines().for_each(|line| println!("   {line}"));
        ensure!(
            output.status.success(),
            "dlq-inspector {} ended with {}",
            arguments.join(" "),
            output.status
        );
        Ok(())
    }

    /// The last outcome in a letter's history.
    async fn outcome(&self, id: &str) -> Result<String> {
        let shown = self.inspector.json(&["show", id]).await?;
        let history =
            shown.first().and_then(|letter| letter["history"].as_array()).context("it has no history")?;
        let outcome = history.iter().rev().find_map(|line: &Value| line["outcome"].as_str());
        Ok(outcome.context("its history has no outcome")?.to_owned())
    }

    /// Rows of the ledger for an order.
    async fn charges(&self, id: Uuid) -> Result<i64> {
        let payments = connect(self.stack.url("PAYMENTS_DATABASE_URL")?).await?;
        Ok(payments.query_one("select count(*) from charges where order_id = $1", &[&id]).await?.get(0))
    }
}
