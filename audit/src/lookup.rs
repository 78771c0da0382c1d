//! Asking a group's database: its leases, its journal, and who confirms what the journal says. Set-based, in chunks.

use std::collections::{BTreeMap, HashMap, HashSet};

use actors::{accounts::PASSED, journal::Mark};
use anyhow::{Context, Result};
use chrono::{DateTime, Utc};
use dead_letters::TopicPartition;
use tokio_postgres::Client;
use uuid::Uuid;

use crate::{
    journal::{Row, Written},
    read::{PutBack, origin, outcome},
    walk::{Lane, Pending},
};

/// Rows of the journal, or of the outbox, fetched by one query.
const PAGE: i64 = 1_000;

/// Where a page of the journal begins: after this first offset and epoch.
pub(crate) type JournalPosition = (i64, i64);

/// A page of the journal.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) rows: Vec<Row>,
    /// Rows that do not read: where they begin, where they end, and why.
    pub(crate) unreadable: Vec<(i64, i64, anyhow::Error)>,
    /// Where the next page begins; nothing after the last one.
    pub(crate) next: Option<JournalPosition>,
}

/// The database of one group.
pub(crate) struct Tables {
    client: Client,
    group: String,
    /// Rows of the journal read.
    pub(crate) journal_rows: u64,
    /// Ids and offsets that were looked up.
    pub(crate) looked_up: u64,
    /// Records that were parked, by how they have ended since.
    pub(crate) ended: BTreeMap<Mark, i64>,
}

impl Tables {
    /// The tables in `group`'s database.
    pub(crate) fn new(client: Client, group: &str) -> Self {
        let group = group.to_owned();
        Self { client, group, journal_rows: 0, looked_up: 0, ended: BTreeMap::new() }
    }

    /// The group's leases, each with what the journal amounts to at the same moment, and the server's time.
    pub(crate) async fn leases(&self) -> Result<(Vec<Lane>, DateTime<Utc>)> {
        // One statement sees one state of both tables.
        let sql = format!(
            "select lease.topic, lease.partition, epoch, first_offset, next_offset, replayed, lost,
                          coalesce(noted.offsets, 0)::bigint, noted.first, now(), {PASSED}
                   from partition_lease lease
                   left join (select topic, partition, sum(next_offset - from_offset) as offsets, min(from_offset) as first
                              from offset_journal where consumer = $1 group by topic, partition) noted
                        on (noted.topic, noted.partition) = (lease.topic, lease.partition)
                   where lease.consumer = $1"
        );
        let rows = self.client.query(&sql, &[&self.group]).await;
        let rows = rows
            .context("the runtime's tables cannot be read: is this the database of the group's service?")?;
        let now = rows.first().map_or_else(Utc::now, |row| row.get(9));
        let lane = |row: &tokio_postgres::Row| Lane {
            source: TopicPartition::new(row.get::<_, &str>(0), row.get(1)),
            requeue: false,
            epoch: row.get(2),
            first: row.get(3),
            next: row.get(4),
            replayed: row.get(5),
            lost: row.get(6),
            passed: row.get(10),
            journaled: row.get(7),
            journaled_from: row.get(8),
            low: 0,
        };
        Ok((rows.iter().map(lane).collect(), now))
    }

    /// The rows after `after` that say something of the lane's offsets below its next one.
    pub(crate) async fn page(&mut self, lane: &Lane, after: JournalPosition) -> Result<Page> {
        let sql = "select from_offset, next_offset, outcomes, epoch, at from offset_journal
                   where consumer = $1 and topic = $2 and partition = $3 and (from_offset, epoch) > ($4, $5)
                         and from_offset < $6
                   order by from_offset, epoch limit $7";
        let TopicPartition { topic, partition } = &lane.source;
        let (offset, epoch) = after;
        let stored = self
            .client
            .query(sql, &[&self.group, &&**topic, partition, &offset, &epoch, &lane.next, &PAGE])
            .await
            .context("the journal cannot be read")?;
        self.journal_rows += u64::try_from(stored.len())?;
        let full = i64::try_from(stored.len()) == Ok(PAGE);
        let next = stored.last().filter(|_| full).map(|row| (row.get(0), row.get(3)));
        let (mut rows, mut unreadable) = (Vec::with_capacity(stored.len()), Vec::new());
        for row in stored {
            let (from, next): (i64, i64) = (row.get(0), row.get(1));
            match Row::new(from, next, row.get(2), Written { epoch: row.get(3), at: row.get(4) }) {
                Ok(row) => rows.push(row),
                Err(error) => unreadable.push((from, next, error)),
            }
        }
        Ok(Page { rows, unreadable, next })
    }

    /// Asks `parked` and the inbox; what neither confirms comes back. `parked` first: a record leaves it in the transaction
    /// that writes the inbox or the dead letter, so one that moves meanwhile is found further on.
    pub(crate) async fn confirm(&mut self, mut open: Vec<Pending>) -> Result<Vec<Pending>> {
        self.in_parked(&mut open).await.context("the parked records cannot be read")?;
        self.put_back(&mut open).await.context("the parked records cannot be read")?;
        self.in_inbox(&mut open).await.context("the inbox cannot be read")?;
        Ok(open)
    }

    async fn in_parked(&mut self, open: &mut Vec<Pending>) -> Result<()> {
        // A lane at a time: the index leads to a lane, not to an offset in it.
        let sql = "select distinct \"offset\" from parked
                   where consumer = $1 and topic = $2 and partition = $3 and \"offset\" = any($4)";
        let mut lanes: BTreeMap<&TopicPartition, Vec<i64>> = BTreeMap::new();
        for one in open.iter().filter(|one| one.mark == Mark::Parked) {
            lanes.entry(&one.source).or_default().push(one.offset);
        }
        let mut waiting: HashSet<(TopicPartition, i64)> = HashSet::new();
        for (source, offsets) in lanes {
            self.looked_up += u64::try_from(offsets.len())?;
            let rows =
                self.client.query(sql, &[&self.group, &&*source.topic, &source.partition, &offsets]).await?;
            waiting.extend(rows.iter().map(|row| (source.clone(), row.get(0))));
        }
        open.retain(|one| one.mark != Mark::Parked || !waiting.contains(&(one.source.clone(), one.offset)));
        Ok(())
    }

    async fn put_back(&mut self, open: &mut Vec<Pending>) -> Result<()> {
        let sql = "select distinct requeued_from, generation from parked
                   where consumer = $1 and requeued_from = any($2)";
        let letters: Vec<Uuid> = open.iter().filter_map(|one| Some(moved(one)?.0)).collect();
        if letters.is_empty() {
            return Ok(());
        }
        self.looked_up += u64::try_from(letters.len())?;
        let rows = self.client.query(sql, &[&self.group, &letters]).await?;
        let generation = |row: &tokio_postgres::Row| u32::try_from(row.get::<_, i32>(1)).unwrap_or_default();
        let waiting: HashSet<PutBack> = rows.iter().map(|row| (row.get(0), generation(row))).collect();
        open.retain(|one| !moved(one).is_some_and(|put_back| waiting.contains(&put_back)));
        Ok(())
    }

    async fn in_inbox(&mut self, open: &mut Vec<Pending>) -> Result<()> {
        let sql = "select event_id, dead from inbox where consumer = $1 and event_id = any($2)";
        let asked = |one: &Pending| {
            one.event.filter(|_| matches!(one.mark, Mark::Applied | Mark::Duplicate | Mark::Parked))
        };
        let events: Vec<Uuid> = open.iter().filter_map(asked).collect();
        if events.is_empty() {
            return Ok(());
        }
        self.looked_up += u64::try_from(events.len())?;
        let rows = self.client.query(sql, &[&self.group, &events]).await?;
        let known: HashMap<Uuid, bool> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
        open.retain_mut(|one| {
            let dead = asked(one).and_then(|event| known.get(&event).copied());
            one.dead = dead == Some(true);
            if let Some(dead) = dead.filter(|_| one.mark == Mark::Parked) {
                *self.ended.entry(if dead { Mark::Dead } else { Mark::Applied }).or_default() += 1;
            }
            // An event that was applied has not died; one that came again, or waited, may have.
            dead.is_none_or(|dead| dead && one.mark == Mark::Applied)
        });
        Ok(())
    }

    /// Which of the origins in `wanted` have a dead letter on its way to Kafka.
    pub(crate) async fn letters_on_their_way(
        &mut self,
        wanted: &HashSet<(TopicPartition, i64)>,
    ) -> Result<HashSet<(TopicPartition, i64)>> {
        let sql = "select lane, seq, headers from outbox where topic = $1 and (lane, seq) > ($2, $3)
                   order by lane, seq limit $4";
        let topic = dead_letters::dlq_topic(&self.group);
        self.on_their_way(sql, &topic, wanted, |row| origin(row.get(2))).await
    }

    /// Which of the requeued records in `wanted` have an outcome on its way to Kafka.
    pub(crate) async fn outcomes_on_their_way(
        &mut self,
        wanted: &HashSet<PutBack>,
    ) -> Result<HashSet<PutBack>> {
        let sql = "select lane, seq, value from outbox where topic = $1 and (lane, seq) > ($2, $3)
                   order by lane, seq limit $4";
        let topic = dead_letters::ACTIONS_TOPIC;
        self.on_their_way(sql, topic, wanted, |row| outcome(row.get::<_, Option<&[u8]>>(2)?)).await
    }

    async fn on_their_way<T: std::hash::Hash + Eq>(
        &mut self,
        sql: &str,
        topic: &str,
        wanted: &HashSet<T>,
        what: impl Fn(&tokio_postgres::Row) -> Option<T>,
    ) -> Result<HashSet<T>> {
        let (mut found, mut after) = (HashSet::new(), (String::new(), i64::MIN));
        loop {
            let rows = self.client.query(sql, &[&topic, &after.0, &after.1, &PAGE]).await;
            let rows = rows.context("the outbox cannot be read")?;
            self.looked_up += u64::try_from(rows.len())?;
            found.extend(rows.iter().filter_map(&what).filter(|one| wanted.contains(one)));
            match rows.last() {
                Some(last) if i64::try_from(rows.len()) == Ok(PAGE) => after = (last.get(0), last.get(1)),
                _ => return Ok(found),
            }
        }
    }
}

/// What a record of the requeue topic put back, or could not: the ledger says how that ended.
pub(crate) fn moved(one: &Pending) -> Option<PutBack> {
    one.put_back.filter(|_| matches!(one.mark, Mark::Moved | Mark::Dead))
}
