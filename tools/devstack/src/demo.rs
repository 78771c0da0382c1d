//! `demo`: the platform's main job on real servers, each step checked, for a person to follow.

mod chaos;
mod evidence;
mod letters;
mod reconcile;
mod saga;
mod stage;

use std::time::Instant;

use anyhow::{Context, Result};

use self::{
    letters::{LIMIT_CENTS, RAISED},
    stage::Demo,
};
use crate::{
    stack::{GatewayPort, Stack, Up},
    topology::Role,
};

/// Retries far enough apart to be followed with the eye.
const RETRY: [(Role, &str, &str); 4] = [
    (Role::Payments, "RETRY_INITIAL_MS", "1500"),
    (Role::Payments, "RETRY_MULTIPLIER", "2"),
    // As if the provider had lowered what it takes since orders was told.
    (Role::Payments, "PROVIDER_MAX_AMOUNT_CENTS", LIMIT_CENTS),
    (Role::Orders, "PROVIDER_MAX_AMOUNT_CENTS", RAISED),
];

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
    // Whoever was interrupted may have started something meanwhile.
    stack.reload()?;
    let ended = stack.discard().await;
    shown.and(ended)?;
    println!(
        "\nAll of it held, in {:.0} s. To work with a stack of your own: ./dev up --detach",
        start.elapsed().as_secs_f64()
    );
    Ok(())
}

async fn show(stack: &mut Stack) -> Result<()> {
    let up = stack.up(&Up::default()).await?;
    println!("Running: {}. Gateway: {}", up.started.join(", "), stack.gateway_url()?);
    let mut demo = Demo::new(stack.clone())?;
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
        self.reconcile().await.context("step 7, the reconciliation")?;
        self.chaos().await.context("step 8, chaos")
    }
}
