//! Reconciliation: does what went in equal what came out, over every database and topic.

mod lanes;

use std::{collections::BTreeMap, fmt};

use anyhow::Result;
use contracts::topics::READERS;

pub use self::lanes::Lane;
use self::lanes::{Leases, OUTCOMES, lanes, read_leases};
use crate::{
    clients::inspector::{DeadLetter, Inspector},
    servers::postgres::connect,
    stack::Stack,
    topology::{DATABASES, KAFKA_BROKERS},
};

/// What one database still waits with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backlog {
    /// Records waiting for another attempt.
    pub parked: i64,
    /// Rows that are not published yet.
    pub outbox: i64,
}

/// Everything that must add up.
#[derive(Clone, Debug)]
pub struct Totals {
    /// How many orders are in each state.
    pub orders: BTreeMap<String, i64>,
    /// Cents of all orders that are COMPLETED.
    pub completed_cents: i64,
    /// Charges, and their cents.
    pub charges: (i64, i64),
    /// Refunds, and their cents.
    pub refunds: (i64, i64),
    /// Orders charged or refunded more than once.
    pub charged_twice: i64,
    /// Assignments by state.
    pub assignments: BTreeMap<String, i64>,
    /// Orders that couriers carry, by the couriers' own count.
    pub courier_load: i64,
    /// Every group's partitions.
    pub lanes: Vec<Lane>,
    /// By database.
    pub backlog: BTreeMap<&'static str, Backlog>,
    /// Dead letters nobody has dealt with.
    pub dead_letters: Vec<DeadLetter>,
}

impl Totals {
    /// Reads them. The stack must be serving; what is still moving makes them a picture of a moment.
    pub async fn read(stack: &Stack) -> Result<Self> {
        let [orders_db, payments_db, delivery_db] = DATABASES.map(|database| database.variable);
        let orders = connect(stack.url(orders_db)?).await?;
        let payments = connect(stack.url(payments_db)?).await?;
        let delivery = connect(stack.url(delivery_db)?).await?;

        let by_state =
            |rows: Vec<tokio_postgres::Row>| rows.iter().map(|row| (row.get(0), row.get(1))).collect();
        let states = orders.query("select state, count(*) from orders group by 1 order by 1", &[]).await?;
        let completed = "select coalesce(sum(amount_cents), 0)::bigint from orders where state = 'COMPLETED'";
        let completed_cents = orders.query_one(completed, &[]).await?.get(0);
        let ledger = "select count(*), coalesce(sum(amount_cents), 0)::bigint from charges where kind = $1";
        let mut sums = Vec::new();
        for kind in ["charge", "refund"] {
            let row = payments.query_one(ledger, &[&kind]).await?;
            sums.push((row.get(0), row.get(1)));
        }
        let twice = "select count(*) from (select 1 from charges group by order_id, kind having count(*) > 1) as twice";
        let assignments = "select state, count(*) from assignments group by 1 order by 1";
        let load = "select coalesce(sum(load), 0)::bigint from couriers";

        let mut backlog = BTreeMap::new();
        let mut leases = Leases::new();
        for (client, database) in [&orders, &payments, &delivery].into_iter().zip(DATABASES) {
            let waiting = "select (select count(*) from parked), (select count(*) from outbox)";
            let row = client.query_one(waiting, &[]).await?;
            backlog.insert(database.name, Backlog { parked: row.get(0), outbox: row.get(1) });
            read_leases(client, &mut leases).await?;
        }
        let lanes = lanes(stack.url(KAFKA_BROKERS)?.to_owned(), leases).await?;
        Ok(Self {
            orders: by_state(states),
            completed_cents,
            charges: sums[0],
            refunds: sums[1],
            charged_twice: payments.query_one(twice, &[]).await?.get(0),
            assignments: by_state(delivery.query(assignments, &[]).await?),
            courier_load: delivery.query_one(load, &[]).await?.get(0),
            lanes,
            backlog,
            dead_letters: Inspector::new(stack)?.list(&["--state", "open"]).await?,
        })
    }

    /// Offsets that were consumed and stand for nothing.
    pub fn unaccounted(&self) -> i64 {
        self.lanes.iter().map(|lane| lane.unaccounted.abs()).sum()
    }

    /// Records that no group has read yet.
    pub fn lag(&self) -> i64 {
        self.lanes.iter().map(|lane| lane.lag).sum()
    }

    /// Records parked, in all databases.
    pub fn parked(&self) -> i64 {
        self.backlog.values().map(|one| one.parked).sum()
    }

    /// Outbox rows not published, in all databases.
    pub fn outbox(&self) -> i64 {
        self.backlog.values().map(|one| one.outbox).sum()
    }

    /// Orders that are neither COMPLETED nor CANCELLED.
    pub fn unfinished(&self) -> i64 {
        self.orders
            .iter()
            .filter(|(state, _)| !crate::clients::gateway::TERMINAL.contains(&state.as_str()))
            .map(|(_, n)| n)
            .sum()
    }

    /// Orders in `state`.
    pub fn orders_in(&self, state: &str) -> i64 {
        self.orders.get(state).copied().unwrap_or_default()
    }

    /// How far `group` is with a partition.
    pub fn lane(&self, group: &str, topic: &str, partition: i32) -> Option<&Lane> {
        self.lanes.iter().find(|lane| {
            (lane.group.as_str(), lane.topic.as_str(), lane.partition) == (group, topic, partition)
        })
    }

    /// Whether nothing moves any more: read, applied, published.
    pub fn is_still(&self) -> bool {
        self.lag() == 0 && self.parked() == 0 && self.outbox() == 0
    }

    /// What does not add up in a system that has come to rest; nothing when they agree.
    pub fn wrong(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        let mut expect = |what: &str, is: i64, should: i64| {
            if is != should {
                wrong.push(format!("{what}: {is}, should be {should}"));
            }
        };
        expect("offsets unaccounted for", self.unaccounted(), 0);
        expect("records not read", self.lag(), 0);
        expect("records parked", self.parked(), 0);
        expect("outbox rows not published", self.outbox(), 0);
        expect("orders charged or refunded twice", self.charged_twice, 0);
        let kept = self.charges.0 - self.refunds.0;
        expect("charges kept, against completed orders", kept, self.orders_in("COMPLETED"));
        expect("cents kept, against completed orders", self.charges.1 - self.refunds.1, self.completed_cents);
        let released = self.assignments.get("released").copied().unwrap_or_default();
        expect("orders still in couriers' hands", self.courier_load, 0);
        // Somebody may have had an order that was cancelled then; and nobody has had one that was never paid.
        let (completed, cancelled) = (self.orders_in("COMPLETED"), self.orders_in("CANCELLED"));
        if !(completed..=completed + cancelled).contains(&released) {
            wrong.push(format!(
                "couriers that are back from an order: {released}, should be {completed}, and at most {cancelled} more"
            ));
        }
        wrong
    }
}

impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |counts: &BTreeMap<String, i64>| {
            counts.iter().map(|(name, count)| format!("{count} {name}")).collect::<Vec<_>>().join(", ")
        };
        writeln!(f, "orders        {}", list(&self.orders))?;
        let euros = |cents: i64| format!("{}.{:02}", cents / 100, cents % 100);
        writeln!(
            f,
            "money         {} charges of {}, {} refunds of {}; completed orders are worth {}; charged twice: {}",
            self.charges.0,
            euros(self.charges.1),
            self.refunds.0,
            euros(self.refunds.1),
            euros(self.completed_cents),
            self.charged_twice
        )?;
        writeln!(f, "assignments   {}; in couriers' hands: {}", list(&self.assignments), self.courier_load)?;
        for (group, _) in READERS {
            let lanes = self.lanes.iter().filter(|lane| lane.group == group);
            let mut outcomes: BTreeMap<&str, i64> = BTreeMap::new();
            let (mut consumed, mut unaccounted, mut lag) = (0, 0, 0);
            for lane in lanes {
                consumed += lane.consumed;
                unaccounted += lane.unaccounted.abs();
                lag += lane.lag;
                lane.outcomes.iter().for_each(|(name, count)| *outcomes.entry(name).or_default() += count);
            }
            let by = OUTCOMES.iter().filter_map(|name| Some((name, *outcomes.get(name)?)));
            let by: Vec<String> =
                by.filter(|(_, count)| *count != 0).map(|(name, count)| format!("{count} {name}")).collect();
            let by = if by.is_empty() { "nothing".to_owned() } else { by.join(" + ") };
            writeln!(f, "{group:17} {consumed} offsets = {by}; unaccounted {unaccounted}, waiting {lag}")?;
        }
        writeln!(f, "backlog       {} parked, {} in the outboxes", self.parked(), self.outbox())?;
        write!(f, "dead letters  {} open", self.dead_letters.len())
    }
}
