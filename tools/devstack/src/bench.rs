//! `bench`: orders through the whole platform, as fast as it takes them, and what they take.

mod usage;

use std::{
    collections::HashMap,
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context, Result, bail};
use futures_util::future::try_join_all;
use hdrhistogram::Histogram;
use serde::Serialize;
use uuid::Uuid;

pub use self::usage::Cost;
use self::usage::Usage;
use crate::{
    clients::gateway::Gateway,
    progress,
    servers::postgres::connect,
    stack::{GatewayPort, Stack, Up},
};

/// What to place.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Orders of the measured run.
    pub orders: usize,
    /// Connections they are placed over.
    pub connections: usize,
    /// Orders placed the same way before anything is measured: a fresh JVM and empty caches say nothing of a system that
    /// runs.
    pub warm_up: usize,
    /// Orders placed one at a time afterwards.
    pub single: usize,
}

impl Load {
    /// So many orders over so many connections, after a warm-up that is no longer than the run itself.
    pub fn new(orders: usize, connections: usize) -> Self {
        Self { orders, connections, warm_up: orders.min(2_000), single: 50 }
    }
}

/// What was measured.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Orders of the measured run.
    pub orders: usize,
    /// Connections they were placed over.
    pub connections: usize,
    /// Orders accepted (202) a second, from the first POST to the last answer.
    pub accepted_per_s: f64,
    /// Orders ended a second, from the first POST until the last was seen ended in the database.
    pub terminal_per_s: f64,
    /// Milliseconds from POST to the end of an order under that load, half of them.
    pub p50_ms: f64,
    /// The same, 99 of 100.
    pub p99_ms: f64,
    /// The same for one order at a time, half of them.
    pub single_p50_ms: f64,
    /// What an order took of the machine under that load.
    #[serde(flatten)]
    pub cost: Cost,
}

/// Starts a private stack, measures, ends it.
pub async fn orders(load: Load) -> Result<Report> {
    let mut stack = Stack::private(GatewayPort::Any, &[])?;
    eprintln!("starting a private stack");
    stack.up(&Up::default()).await?;
    let report = measure(&stack, load).await;
    stack.discard().await?;
    report
}

/// Measures on a stack that serves nobody else. The end of an order is the time that the orders service wrote into it, by the same
/// machine's clock, in the transaction that ended it; the throughput counts an order when that transaction is visible.
pub async fn measure(stack: &Stack, load: Load) -> Result<Report> {
    let gateway = Gateway::new(stack.gateway_url()?, load.connections)?;
    let database = connect(stack.url("ORDERS_DATABASE_URL")?).await?;
    let warm = progress::during("warming up", place(&gateway, load.warm_up, load.connections)).await?;
    ended(&database, &warm).await?;

    let before = Usage::read(stack, &database).await?;
    let start = Instant::now();
    let posted = progress::during("placing orders", place(&gateway, load.orders, load.connections)).await?;
    let accepted = start.elapsed();
    if posted.len() != load.orders {
        bail!("{} orders were placed and {} ids came back", load.orders, posted.len());
    }
    progress::during("waiting for the last order to end", ended(&database, &posted)).await?;
    let terminal = start.elapsed();
    let cost = Usage::read(stack, &database).await?.since(&before, load.orders);
    let latencies = latencies(&database, &posted).await?;

    let mut singles = Posted::new();
    for _ in 0..load.single {
        let one = place(&gateway, 1, 1).await?;
        ended(&database, &one).await?;
        singles.extend(one);
    }
    let single = self::latencies(&database, &singles).await?;
    #[expect(clippy::cast_precision_loss, reason = "an order count is far below 2^52")]
    let rate = |taken: Duration| load.orders as f64 / taken.as_secs_f64();
    Ok(Report {
        orders: load.orders,
        connections: load.connections,
        accepted_per_s: rate(accepted),
        terminal_per_s: rate(terminal),
        p50_ms: milliseconds(&latencies, 0.5),
        p99_ms: milliseconds(&latencies, 0.99),
        single_p50_ms: milliseconds(&single, 0.5),
        cost,
    })
}

/// Orders by id, with the time at which each was posted.
type Posted = HashMap<Uuid, SystemTime>;

/// Microseconds that orders took from their POST to the end that is noted in them, to three digits.
async fn latencies(database: &tokio_postgres::Client, posted: &Posted) -> Result<Histogram<u64>> {
    let ids: Vec<Uuid> = posted.keys().copied().collect();
    let sql = "select order_id, updated_at from orders where order_id = any($1) and state = 'COMPLETED'";
    let rows = database.query(sql, &[&ids]).await?;
    if rows.len() != ids.len() {
        bail!("{} of {} orders are COMPLETED: with tok_ok all should be", rows.len(), ids.len());
    }
    let mut latencies = Histogram::new(3)?;
    for row in rows {
        let (id, at): (Uuid, SystemTime) = (row.get(0), row.get(1));
        let posted = posted.get(&id).context("an order nobody placed")?;
        latencies.record(u64::try_from(at.duration_since(*posted).unwrap_or_default().as_micros())?)?;
    }
    Ok(latencies)
}

/// The latency that this share of all do not exceed.
fn milliseconds(latencies: &Histogram<u64>, share: f64) -> f64 {
    Duration::from_micros(latencies.value_at_quantile(share)).as_secs_f64() * 1e3
}

/// Places orders over so many connections, each with a key by which it could be sent again; when each was posted.
async fn place(gateway: &Gateway, orders: usize, connections: usize) -> Result<Posted> {
    let next = AtomicUsize::new(0);
    let placing = (0..connections).map(|_| async {
        let mut placed = Vec::new();
        while next.fetch_add(1, Ordering::Relaxed) < orders {
            let posted = SystemTime::now();
            placed.push((gateway.place_keyed("tok_ok", 1_000).await?, posted));
        }
        anyhow::Ok(placed)
    });
    Ok(try_join_all(placing).await?.into_iter().flatten().collect())
}

/// Waits until no order is seen to be open; all of them are ours. One row is asked for with an index, so that waiting costs
/// the system little. Then every one of `posted` must be there.
async fn ended(database: &tokio_postgres::Client, posted: &Posted) -> Result<()> {
    const LIMIT: Duration = Duration::from_secs(120);
    const PAUSE: Duration = Duration::from_millis(10);
    let ids: Vec<Uuid> = posted.keys().copied().collect();
    let open = "select 1 from orders where state in ('PENDING', 'PAID', 'REFUNDING') limit 1";
    let known = "select count(*) from orders where order_id = any($1)";
    let (open, known) = (database.prepare(open).await?, database.prepare(known).await?);
    let start = Instant::now();
    while database.query_opt(&open, &[]).await?.is_some() {
        if start.elapsed() > LIMIT {
            bail!("orders are still open after {LIMIT:?}");
        }
        tokio::time::sleep(PAUSE).await;
    }
    let count: i64 = database.query_one(&known, &[&ids]).await?.get(0);
    if usize::try_from(count) != Ok(ids.len()) {
        bail!("{count} of {} accepted orders are in the database", ids.len());
    }
    Ok(())
}
