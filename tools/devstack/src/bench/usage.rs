//! What a load takes: processor time of each process by the kernel's count, transactions and WAL by PostgreSQL's.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use procfs::process::{Stat, all_processes};
use serde::Serialize;
use tokio_postgres::Client;

use crate::{stack::Stack, topology::Role};

/// How the program that places the orders is called.
const BENCH: &str = "bench";

/// What an order takes.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Cost {
    /// Milliseconds of processor time an order, by process; `bench` is the load itself, `postgres` includes its backends.
    pub processor_ms_per_order: BTreeMap<&'static str, f64>,
    /// Transactions committed an order, in all databases, reads included. A backend reports its own at most once a second: a run
    /// of a few seconds does not say much.
    pub transactions_per_order: f64,
    /// Bytes of write-ahead log an order.
    pub wal_bytes_per_order: f64,
}

impl Cost {
    /// All processes together.
    pub fn processor_ms(&self) -> f64 {
        self.processor_ms_per_order.values().sum()
    }
}

/// What was used up to a moment.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Usage {
    /// Ticks of processor time, by process.
    ticks: BTreeMap<&'static str, u64>,
    transactions: i64,
    wal_bytes: i64,
}

impl Usage {
    /// Reads what all processes of `stack`, and this one, have used until now.
    pub(super) async fn read(stack: &Stack, database: &Client) -> Result<Self> {
        let sql = "select (select sum(xact_commit) from pg_stat_database)::bigint,
                          pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::bigint";
        let row = database.query_one(sql, &[]).await.context("PostgreSQL does not say what it has done")?;
        // One that ends meanwhile says nothing any more.
        let table: Vec<Stat> =
            all_processes()?.filter_map(|process| process.and_then(|process| process.stat()).ok()).collect();
        let mut ticks = BTreeMap::new();
        for process in stack.status() {
            let Some(pid) = process.pid else { continue };
            let whole = process.name == Role::Postgres;
            let used = used(&table, pid, whole).with_context(|| format!("{} does not run", process.name))?;
            *ticks.entry(process.name.name()).or_default() += used;
        }
        ticks.insert(BENCH, used(&table, std::process::id(), false).context("this process is not in /proc")?);
        Ok(Self { ticks, transactions: row.get(0), wal_bytes: row.get(1) })
    }

    /// What each of `orders` took since `before`.
    pub(super) fn since(&self, before: &Self, orders: usize) -> Cost {
        #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
        let each = |used: i64| used as f64 / orders as f64;
        #[expect(clippy::cast_precision_loss, reason = "a hundred")]
        let tick_ms = 1e3 / procfs::ticks_per_second() as f64;
        let milliseconds = |(name, ticks): (&&'static str, &u64)| {
            // A process that is another than before began at nothing.
            let had = before.ticks.get(name).copied().filter(|had| had <= ticks).unwrap_or_default();
            let used = i64::try_from(ticks - had).unwrap_or(i64::MAX);
            (*name, each(used) * tick_ms)
        };
        Cost {
            processor_ms_per_order: self.ticks.iter().map(milliseconds).collect(),
            transactions_per_order: each(self.transactions - before.transactions),
            wal_bytes_per_order: each(self.wal_bytes - before.wal_bytes),
        }
    }
}

/// Ticks that `pid` has used; with its children, those that have ended included, if it is asked for as a `whole`.
fn used(table: &[Stat], pid: u32, whole: bool) -> Option<u64> {
    let is = |id: i32| u32::try_from(id) == Ok(pid);
    let own = |process: &Stat| process.utime + process.stime;
    let process = table.iter().find(|process| is(process.pid))?;
    if !whole {
        return Some(own(process));
    }
    let ended = u64::try_from(process.cutime + process.cstime).ok()?;
    let children = table.iter().filter(|child| is(child.ppid));
    Some(own(process) + ended + children.map(own).sum::<u64>())
}

#[cfg(test)]
mod tests {
    use procfs::FromRead as _;

    use super::*;

    fn stat(pid: u32, parent: u32, ticks: [u64; 4]) -> Stat {
        let [user, system, children_user, children_system] = ticks;
        let line = format!(
            "{pid} (a) S {parent} 7 7 0 -1 4194560 1 2 3 4 {user} {system} {children_user} {children_system} 20 0 9 0 1234 5 \
             6 7 8 9 10 11 12 13 14 15 16 17 18 19"
        );
        Stat::from_read(line.as_bytes()).expect("a line as the kernel writes it")
    }

    #[test]
    fn a_server_is_counted_with_its_backends() {
        let table =
            [stat(7, 1, [10, 5, 100, 50]), stat(8, 7, [3, 4, 1_000, 1_000]), stat(9, 1, [40, 2, 9, 9])];
        assert_eq!(used(&table, 7, true), Some(165 + 7));
        assert_eq!(used(&table, 9, false), Some(42), "not what it waited for");
        assert_eq!(used(&table, 10, false), None);
    }

    #[test]
    fn what_an_order_took_is_the_difference_shared_by_all() {
        let at = |kafka, bench, transactions, wal_bytes| Usage {
            ticks: BTreeMap::from([("kafka", kafka), (BENCH, bench)]),
            transactions,
            wal_bytes,
        };
        let cost = at(700, 60, 3_000, 5_500_000).since(&at(100, 50, 1_000, 0), 500);
        // 600 ticks are 6 s: 12 ms each of 500.
        assert_eq!(cost.processor_ms_per_order, BTreeMap::from([("kafka", 12.0), (BENCH, 0.2)]));
        assert_eq!((cost.transactions_per_order, cost.wal_bytes_per_order), (4.0, 11_000.0));
        assert!((cost.processor_ms() - 12.2).abs() < 1e-9);
        let anew = at(30, 60, 0, 0).since(&at(100, 50, 0, 0), 10);
        assert_eq!(anew.processor_ms_per_order["kafka"], 30.0, "one that was started anew began at nothing");
    }
}
