//! Orders that keep coming while something is done to the stack, and what must hold when all have ended.

use std::{
    collections::HashMap,
    env,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    time::Duration,
};

use anyhow::{Result, ensure};
use devstack::{
    audit,
    servers::postgres::connect,
    stack::Stack,
    testing::{SOON, Trial},
    topology::Role,
};
use futures_util::future::try_join_all;
use uuid::Uuid;

/// A member that is killed is missed soon.
pub(crate) const SETTINGS: &[(Role, &str, &str)] = &[
    (Role::Orders, "SESSION_TIMEOUT_MS", "6000"),
    (Role::Payments, "SESSION_TIMEOUT_MS", "6000"),
    (Role::Delivery, "SESSION_TIMEOUT_MS", "6000"),
];

const ORDERS: usize = 600;
const CUSTOMERS: usize = 12;
/// Orders accepted before the fault.
const BEFORE: usize = 100;

/// What is placed, in turn, and how it ends.
const MIX: [(&str, &str); 8] = [
    ("tok_ok", "COMPLETED"),
    ("tok_ok", "COMPLETED"),
    ("tok_declined", "CANCELLED"),
    ("tok_ok", "COMPLETED"),
    ("tok_flaky_1", "COMPLETED"),
    ("tok_ok", "COMPLETED"),
    ("tok_no_courier", "CANCELLED"),
    ("tok_ok", "COMPLETED"),
];

/// Whether every fault is tried, and not a few that are drawn.
pub(crate) fn all() -> bool {
    env::var_os("ALL_FAULTS").is_some()
}

/// Places orders, does `fault` in the midst of them, and checks how all end.
pub(crate) async fn under_load(
    trial: &mut Trial,
    fault: impl AsyncFnOnce(&mut Stack) -> Result<()>,
) -> Result<()> {
    under(trial, Load { orders: ORDERS, pause: Duration::ZERO, to_the_end: false }, fault).await.map(drop)
}

/// How orders come in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    /// So many at the least.
    pub(crate) orders: usize,
    /// Between two of a customer.
    pub(crate) pause: Duration,
    /// For as long as it takes to do what is done to the stack.
    pub(crate) to_the_end: bool,
}

/// The same under such a load; how many requests were sent again.
pub(crate) async fn under(
    trial: &mut Trial,
    load: Load,
    fault: impl AsyncFnOnce(&mut Stack) -> Result<()>,
) -> Result<usize> {
    let next = AtomicUsize::new(0);
    let accepted = AtomicUsize::new(0);
    let repeated = AtomicUsize::new(0);
    let done = AtomicBool::new(!load.to_the_end);
    let gateway = trial.gateway.clone();
    let customers = (0..CUSTOMERS).map(|_| async {
        let mut placed = Vec::new();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= load.orders && done.load(Ordering::Relaxed) {
                return anyhow::Ok(placed);
            }
            tokio::time::sleep(load.pause).await;
            let (token, end) = MIX[number % MIX.len()];
            let cents = 100 + i64::try_from(number)?;
            let (order, sent) = gateway.place_counted(token, cents, SOON).await?;
            placed.push((order, end));
            repeated.fetch_add(sent - 1, Ordering::Relaxed);
            accepted.fetch_add(1, Ordering::Relaxed);
        }
    });
    let stack = &mut trial.stack;
    let faults = async {
        while accepted.load(Ordering::Relaxed) < BEFORE {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        fault(stack).await?;
        done.store(true, Ordering::Relaxed);
        Ok(accepted.load(Ordering::Relaxed))
    };
    let (placed, during) = tokio::try_join!(try_join_all(customers), faults)?;
    ensure!(during >= BEFORE, "the fault came before the load");

    let totals =
        trial.totals("at rest", |totals| totals.unfinished() == 0 && totals.wrong().is_empty()).await?;
    ensure!(totals.dead_letters.is_empty(), "an outage made dead letters: {:?}", totals.dead_letters);
    ensure!(totals.unaccounted() == 0, "offsets are unaccounted for:\n{totals}");
    let audit = audit::run(&trial.stack, audit::retention()).await?;
    ensure!(audit.is_clean(), "offsets have no outcome:\n{audit}");

    let placed: HashMap<Uuid, &str> = placed.into_iter().flatten().collect();
    let accepted = accepted.into_inner();
    ensure!(placed.len() == accepted, "{} ids for {accepted} accepted orders", placed.len());
    let orders = connect(trial.stack.url("ORDERS_DATABASE_URL")?).await?;
    // Whatever answer was lost and asked for again: a conversation has one order.
    let twice = "select count(*) - count(distinct correlation_id) from orders";
    let twice: i64 = orders.query_one(twice, &[]).await?.get(0);
    ensure!(twice == 0, "{twice} orders were placed once more when they were sent again");
    let ids: Vec<Uuid> = placed.keys().copied().collect();
    let rows = orders.query("select order_id, state from orders where order_id = any($1)", &[&ids]).await?;
    ensure!(rows.len() == accepted, "{} of {accepted} accepted orders are there", rows.len());
    for row in rows {
        let (id, state): (Uuid, String) = (row.get(0), row.get(1));
        ensure!(placed.get(&id) == Some(&state.as_str()), "order {id} is {state}, not {:?}", placed.get(&id));
    }
    Ok(repeated.into_inner())
}
