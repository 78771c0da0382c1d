//! Steps 1 to 4: orders that end, whatever the provider does.

use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use contracts::topics;
use tokio::process::Command;
use uuid::Uuid;

use super::stage::{Demo, SOON, proved, timeline};
use crate::{
    clients::{gateway::Order, topics::partition_of},
    os::paths,
};

impl Demo {
    pub(super) async fn completed(&mut self) -> Result<()> {
        self.heading("An order, placed with plain curl, runs to COMPLETED across the services");
        let url = format!("{}/place-order", self.gateway.url());
        let body = r#"{"item":"Margherita pizza","payment_token":"tok_ok"}"#;
        println!("   $ curl -X POST {url} -d '{body}'");
        let answer = match paths::program("curl") {
            Ok(curl) => {
                let mut command = Command::new(curl);
                command.args(["-sS", "--noproxy", "*", "-X", "POST", &url, "-d", body]);
                let output = command.output().await.context("curl cannot be run")?;
                ensure!(output.status.success(), "curl: {}", String::from_utf8_lossy(&output.stderr));
                String::from_utf8_lossy(&output.stdout).into_owned()
            }
            Err(_) => {
                println!("   (curl is not installed here: the same request is sent without it)");
                self.gateway.post(body.into()).await?.text().await?
            }
        };
        println!("   {}", answer.trim());
        let placed: Order =
            serde_json::from_str(&answer).with_context(|| format!("not an order: {answer}"))?;
        ensure!(placed.status == "PENDING", "it was answered with {}, not PENDING", placed.status);
        let order = self.gateway.until(placed.order_id, "COMPLETED", SOON).await?;
        timeline(&order);
        let events = ["ORDER_CREATED", "PAYMENT_SUCCESS", "DELIVERY_ASSIGNED", "ORDER_COMPLETED"];
        for event in events {
            ensure!(order.events().contains(&event), "{event} is not in its timeline: {:?}", order.events());
        }
        proved("COMPLETED: orders, payments and delivery each did their part");
        Ok(())
    }

    pub(super) async fn declined(&mut self) -> Result<()> {
        self.heading("A declined payment: the order is CANCELLED, and no courier is sent");
        let id = self.gateway.place("tok_declined", 1_290).await?;
        let order = self.gateway.until(id, "CANCELLED", SOON).await?;
        timeline(&order);
        ensure!(order.events().contains(&"PAYMENT_FAILED"), "no PAYMENT_FAILED: {:?}", order.events());
        ensure!(!order.events().contains(&"DELIVERY_ASSIGNED"), "a courier was sent: {:?}", order.events());
        proved(&format!(
            "CANCELLED ({}), delivery skipped",
            order.reason.as_deref().unwrap_or("no reason given")
        ));
        Ok(())
    }

    pub(super) async fn flaky(&mut self) -> Result<()> {
        self.heading("A flaky provider: two retries with backoff, while orders behind it go on");
        let correlation = format!("demo-flaky-{}", Uuid::new_v4());
        let flaky = self.gateway.place_as("tok_flaky_2", 1_290, &correlation).await?;
        let partition = |id: Uuid| partition_of(id.to_string().as_bytes(), topics::PARTITIONS);
        let mut behind = Vec::new();
        // One in six lands behind it; a hundred that do not would be no chance.
        for _ in 0..100 {
            let id = self.gateway.place("tok_ok", 1_290).await?;
            if partition(id) == partition(flaky) {
                behind.push(id);
            }
            if behind.len() == 3 {
                break;
            }
        }
        ensure!(behind.len() >= 2, "no orders landed on partition {} behind it", partition(flaky));
        println!(
            "   order {flaky} (tok_flaky_2) and, behind it on partition {}: {} more",
            partition(flaky),
            behind.len()
        );
        let start = Instant::now();
        for id in &behind {
            self.gateway.until(*id, "COMPLETED", SOON).await?;
        }
        let waiting = self.gateway.order(flaky).await?;
        ensure!(!waiting.is_terminal(), "it ended before those behind it did: they waited for it");
        println!(
            "   the {} behind it are COMPLETED after {} ms; it is still {}",
            behind.len(),
            start.elapsed().as_millis(),
            waiting.status
        );
        let tries = self
            .payments
            .show("retries", 2, SOON, |line| {
                line["correlation_id"] == correlation.as_str() && !line["backoff_ms"].is_null()
            })
            .await?;
        let backoffs: Vec<f64> = tries.iter().filter_map(|line| line["backoff_ms"].as_f64()).collect();
        ensure!(backoffs.len() == 2 && backoffs[0] < backoffs[1], "the backoff did not grow: {backoffs:?}");
        let order = self.gateway.until(flaky, "COMPLETED", SOON).await?;
        timeline(&order);
        proved(&format!(
            "COMPLETED at the third attempt, after {} and {} ms; nobody waited for it",
            backoffs[0], backoffs[1]
        ));
        Ok(())
    }

    pub(super) async fn crash(&mut self) -> Result<()> {
        self.heading("A payment that kills its actor: the supervisor restarts it and the order COMPLETES");
        let id = self.gateway.place("tok_crash_once", 1_290).await?;
        let partition = partition_of(id.to_string().as_bytes(), topics::PARTITIONS);
        let restart = |line: &serde_json::Value| {
            !line["records_replayed"].is_null()
                && line["topic"] == topics::ORDERS
                && line["partition"] == partition
        };
        self.payments.show("a restart", 1, SOON, restart).await?;
        let order = self.gateway.until(id, "COMPLETED", SOON).await?;
        timeline(&order);
        let charges = order.events().iter().filter(|event| **event == "PAYMENT_SUCCESS").count();
        if charges != 1 {
            bail!("it was charged {charges} times");
        }
        proved("the actor died and was restarted, the process went on, the order was charged once");
        Ok(())
    }
}
