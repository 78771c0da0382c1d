//! A cancel that meets its charge at every place where a process may die.

use std::{
    io::Write,
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context, Result, ensure};
use devstack::{
    audit, money,
    stack::Stack,
    testing::{self, SOON, Trial},
    topology::Role,
};
use futures_util::future::try_join_all;
use uuid::Uuid;

use crate::SETTINGS;

/// What a run may take unless all of it was asked for.
const BUDGET: Duration = Duration::from_secs(50);
/// Orders of a round: some are cancelled before they are charged, some while, some afterwards.
const ORDERS: usize = 24;
/// What is placed, in turn.
const TOKENS: [&str; 4] = ["tok_ok", "tok_flaky_1", "tok_no_courier", "tok_ok"];

/// The places that a batch of these services, or a cancel, passes.
const POINTS: [&str; 13] = [
    "batch-decoded",
    "batch-prepared",
    "batch-held",
    "batch-registered",
    "batch-saved",
    "batch-written",
    "batch-advanced",
    "batch-committed",
    "batch-published",
    "parked-fetched",
    "relay-acknowledged",
    "writer-written",
    "writer-committed",
];

/// Who dies where, and at which time it comes there.
fn rounds() -> Vec<(Role, &'static str, u32)> {
    let mut rounds = Vec::new();
    for point in POINTS {
        for role in [Role::Payments, Role::Orders, Role::Delivery] {
            let writes = point.starts_with("writer-");
            let possible = match point {
                // Only payments calls somebody, or has retries; what is said when nothing else happens, the others may not have.
                "batch-prepared" | "parked-fetched" | "relay-acknowledged" => role == Role::Payments,
                _ => !writes || role == Role::Orders,
            };
            if possible {
                // Not the first time, when nothing has happened yet; but some come there once only.
                let hit = if writes { 4 } else { 1 + u32::from(point.starts_with("batch-")) };
                rounds.push((role, point, hit));
            }
        }
    }
    rounds
}

async fn alive(stack: &Stack, role: Role) -> bool {
    stack.process(role, 1).is_ok_and(|process| process.is_alive())
}

/// Places an order and cancels it after a while; what may be refused is asked again until it is answered.
async fn placed_and_cancelled(trial: &Trial, number: usize) -> Result<Uuid> {
    let order = trial.gateway.place_eventually(TOKENS[number % TOKENS.len()], 1_000, SOON).await?;
    let pause = u64::try_from(number * 10)?;
    tokio::time::sleep(Duration::from_millis(pause)).await;
    let start = Instant::now();
    loop {
        match trial.gateway.cancel(order).await {
            // Delivered before.
            Ok((200 | 409, _)) => return Ok(order),
            Ok((status, said)) => {
                ensure!(status >= 500, "{status}: {said}");
                ensure!(start.elapsed() < SOON, "{status} after {SOON:?}: {said}");
            }
            Err(error) => ensure!(start.elapsed() < SOON, "{error:#}"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn dies_at(trial: &mut Trial, role: Role, point: &str, hit: u32) -> Result<()> {
    trial.stack.restart_with(role, 1, &[("FAILPOINT", &format!("{point}:{hit}"))]).await?;
    // Before anything: the next start has none.
    trial.stack.set_variable(role, "FAILPOINT", "");
    let mut stack = trial.stack.clone();
    let dying = async {
        let start = Instant::now();
        while alive(&stack, role).await {
            ensure!(start.elapsed() < SOON, "{role} did not come to {point}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        stack.start(role, 1).await?;
        anyhow::Ok(stack)
    };
    let placing = try_join_all((0..ORDERS).map(|number| placed_and_cancelled(trial, number)));
    let (orders, stack) = tokio::try_join!(placing, dying)?;
    trial.stack = stack;
    trial.totals("at rest", |totals| totals.unfinished() == 0 && totals.wrong().is_empty()).await?;
    for order in orders {
        let shown = trial.gateway.order(order).await?;
        let kept = match trial.ledger(order).await? {
            (charges @ 0..=1, refunds @ 0..=1) => charges - refunds,
            moved => anyhow::bail!("{order}: money moved {moved:?}"),
        };
        let expected = i64::from(shown.status == "COMPLETED");
        ensure!(kept == expected, "{order} is {} and {kept} charges are kept", shown.status);
    }
    let report = money::run(&trial.stack, Duration::ZERO).await?;
    ensure!(report.is_clean(), "{report}");
    Ok(())
}

#[test]
fn a_cancel_may_meet_its_charge_wherever_somebody_dies() -> Result<()> {
    let all = std::env::var_os("ALL_FAILPOINTS").is_some();
    let rounds = rounds();
    // Another beginning each time, so that in a few runs all have had their turn.
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
    let drawn = || usize::try_from(now.as_secs()).unwrap_or(0) % rounds.len();
    let turn = std::env::var("RACE_FROM").ok().and_then(|text| text.parse().ok()).unwrap_or_else(drawn);
    println!("beginning at {turn} of {}: RACE_FROM={turn} does it again", rounds.len());
    let started = Instant::now();
    let mut died = Vec::new();
    testing::run(SETTINGS, async |trial| {
        for (role, point, hit) in rounds.iter().cycle().skip(turn).take(rounds.len()) {
            if !all && started.elapsed() > BUDGET {
                break;
            }
            dies_at(trial, *role, point, *hit).await.with_context(|| format!("{role} dies at {point}"))?;
            died.push(format!("{role} at {point}"));
        }
        let audit = audit::run(&trial.stack, audit::retention()).await?;
        ensure!(audit.is_clean(), "{audit}");
        Ok(())
    })?;
    // Not by the macro, whose words a test that passes keeps to itself.
    writeln!(
        std::io::stderr(),
        "{} of {} deaths in {:.0} s: {}",
        died.len(),
        rounds.len(),
        started.elapsed().as_secs_f64(),
        died.join(", ")
    )?;
    Ok(())
}
