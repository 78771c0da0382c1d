//! Orders that are sent again whenever their answer is lost, late or an error.

use std::time::Duration;

use anyhow::{Result, ensure};
use devstack::{os::process::Frozen, stack::Stack, testing, topology::Role};

use crate::load::{self, Load, under};

/// Longer than the clients wait for an answer: they send again what is still in hand.
const FROZEN: Duration = Duration::from_secs(4);

async fn dies(stack: &mut Stack, role: Role) -> Result<()> {
    stack.kill(role, 1).await?;
    stack.start(role, 1).await
}

async fn stands_still(stack: &Stack, role: Role) -> Result<()> {
    let frozen = Frozen::new(vec![stack.process(role, 1)?])?;
    // Not a wait for anything: for this long it does not answer.
    tokio::time::sleep(FROZEN).await;
    drop(frozen);
    Ok(())
}

#[test]
fn an_order_that_is_sent_until_it_is_accepted_is_placed_once_whatever_dies() -> Result<()> {
    let load = Load { orders: 2_000, pause: Duration::from_millis(40), to_the_end: true };
    testing::run(load::SETTINGS, async |trial| {
        let repeated = under(trial, load, async |stack| {
            let rounds = if load::all() { 3 } else { 1 };
            for _ in 0..rounds {
                dies(stack, Role::Orders).await?;
                stands_still(stack, Role::Orders).await?;
                dies(stack, Role::Postgres).await?;
                dies(stack, Role::Gateway).await?;
                stands_still(stack, Role::Gateway).await?;
            }
            Ok(())
        })
        .await?;
        ensure!(repeated > 20, "the faults must be felt: {repeated} requests were sent again");
        Ok(())
    })
}
