//! `demo`: the platform's main job on real servers, each step checked, for a person to follow.

mod evidence;
mod letters;
mod saga;

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use self::evidence::Evidence;
use crate::{
    audit,
    clients::{gateway::Gateway, inspector::Inspector},
    reconcile::Totals,
    stack::{GatewayPort, Stack, Up},
    topology::{KAFKA_BROKERS, Role},
};

/// Time an order is given to end, and a log line to appear.
const SOON: Duration = Duration::from_secs(20);
/// What the provider charges at most, until step 6 raises it.
const LIMIT_CENTS: &str = "1000000";
/// Retries far enough apart to be followed with the eye.
const RETRY: [(Role, &str, &str); 3] = [
    (Role::Payments, "RETRY_INITIAL_MS", "1500"),
    (Role::Payments, "RETRY_MULTIPLIER", "2"),
    (Role::Payments, "PROVIDER_MAX_AMOUNT_CENTS", LIMIT_CENTS),
];

/// A running demo.
struct Demo {
    stack: Stack,
    gateway: Gateway,
    inspector: Inspector,
    payments: Evidence,
    brokers: String,
    steps: u32,
}

/// Starts a private stack, shows everything, ends it. An error names the step that did not show what it should.
pub async fn run() -> Result<()> {
    let start = Instant::now();
    println!(
        "Backburner: an order's way through Kafka, PostgreSQL and Redis, and what happens when a step fails."
    );
    println!("Starting a private stack (nothing of it is left when this ends).");
    let mut stack = Stack::private(GatewayPort::Usual, &RETRY)?;
    let shown = tokio::select! {
        shown = show(&mut stack) => shown,
        interrupted = tokio::signal::ctrl_c() => Err(match interrupted {
            Ok(()) => anyhow::anyhow!("interrupted"),
            Err(error) => error.into(),
        }),
    };
    let ended = stack.discard().await;
    shown.and(ended)?;
    println!(
        "\nAll of it held, in {:.0} s. To work with a stack of your own: ./dev up --detach",
        start.elapsed().as_secs_f64()
    );
    Ok(())
}

async fn show(stack: &mut Stack) -> Result<()> {
    let started = stack.up(&Up::default()).await?;
    println!("Running: {}. Gateway: {}", started.join(", "), stack.gateway_url()?);
    let mut demo = Demo {
        gateway: Gateway::new(stack.gateway_url()?, 8)?,
        inspector: Inspector::new(stack)?,
        payments: Evidence::new(stack.log(Role::Payments, 1)),
        brokers: stack.url(KAFKA_BROKERS)?.to_owned(),
        stack: stack.clone(),
        steps: 0,
    };
    let shown = demo.steps().await;
    // It restarted a service: what runs now is what has to be ended.
    *stack = demo.stack;
    shown
}

impl Demo {
    async fn steps(&mut self) -> Result<()> {
        self.completed().await.context("step 1, an order from curl to COMPLETED")?;
        self.declined().await.context("step 2, a declined payment")?;
        self.flaky().await.context("step 3, a flaky provider")?;
        self.crash().await.context("step 4, an actor that dies")?;
        self.poison().await.context("step 5, dead letters")?;
        self.requeue().await.context("step 6, a dead letter put back")?;
        self.reconcile().await.context("step 7, the reconciliation")
    }

    fn heading(&mut self, title: &str) {
        self.steps += 1;
        println!("\n── {}. {title}", self.steps);
    }

    async fn reconcile(&mut self) -> Result<()> {
        self.heading("Reconciliation: everything that went in came out once");
        let start = Instant::now();
        let totals = loop {
            let totals = Totals::read(&self.stack).await?;
            if totals.wrong().is_empty() || start.elapsed() > SOON {
                break totals;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        };
        totals.to_string().lines().for_each(|line| println!("   {line}"));
        let wrong = totals.wrong();
        if !wrong.is_empty() {
            bail!("the totals do not agree: {}", wrong.join("; "));
        }
        // Every order that did not end has a dead letter that says why.
        let explained =
            totals.dead_letters.iter().filter(|letter| letter.event_type.as_deref() == Some("ORDER_CREATED"));
        let explained = i64::try_from(explained.count())?;
        if totals.unfinished() != explained {
            bail!("{} orders have not ended, and {explained} dead letters say why", totals.unfinished());
        }
        proved(&format!(
            "every offset is accounted for; the {explained} unfinished order has an open dead letter"
        ));
        // The counters could agree by accident.
        println!("   and without believing the counters, every topic read again (./dev audit):");
        let audit = audit::run(&self.stack, audit::retention()).await?;
        audit.to_string().lines().for_each(|line| println!("   {line}"));
        ensure!(audit.is_clean(), "the audit found what the counters did not: {audit}");
        proved(
            "every record has an outcome, and what was applied, parked, dead or put back is where it must be",
        );
        Ok(())
    }
}

/// A line about something that was checked and held.
fn proved(what: &str) {
    println!("   ✓ {what}");
}
