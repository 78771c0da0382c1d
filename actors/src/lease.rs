//! Who owns a partition, how far it is, and what became of every offset.
//!
//! `next_offset` here, not Kafka's committed offset, is the authority: it moves in the transaction that applies
//! the batch. Every claim raises the epoch, and every batch names the epoch it believes in, so a former owner that wakes
//! up late changes nothing. What became of each offset is counted in the lease and written to the [`journal`], from which
//! it can be proved against the topic.

pub mod accounts;
mod admin;
mod claim;
pub mod journal;
mod progress;
mod row;

use std::sync::LazyLock;

use chrono::{DateTime, Utc};
use dead_letters::{NextOffset, Offset, TopicPartition};
use deadpool_postgres::{GenericClient, Transaction};
use tokio_postgres::{Row, types::ToSql};

use self::accounts::UNACCOUNTED;
pub use self::progress::caught_up;
pub(crate) use self::{
    admin::{place, reset, set_paused},
    claim::{ClaimError, ClaimRequest, Claimed, Intent, RecordAt, claim, remember, write_intent},
    progress::{CaughtUp, Marks, Progress, write_caught_up},
    row::RowAt,
};
use crate::record::Record;

/// Outcomes, as changes to a lease's counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) applied: i64,
    pub(crate) duplicate: i64,
    /// Records now waiting; falls when one of the lane's own ends otherwise.
    pub(crate) parked: i64,
    pub(crate) dead: i64,
    pub(crate) ignored: i64,
    pub(crate) moved: i64,
    pub(crate) gaps: i64,
}

impl Counts {
    /// Offsets accounted for.
    pub(crate) fn sum(&self) -> i64 {
        self.applied + self.duplicate + self.parked + self.dead + self.ignored + self.moved + self.gaps
    }
}

/// A partition as its owner believes it to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Claim {
    pub(crate) epoch: i64,
    pub(crate) next_offset: NextOffset,
    /// Number of the last row written to the lane's outbox.
    pub(crate) outbox_seq: i64,
    /// The same of the outbox of its dead letters.
    pub(crate) letter_seq: i64,
    /// The last record that was finished; unknown after a reset.
    pub(crate) last: Option<Landmark>,
    /// Where its row lay when its owner last wrote it.
    pub(crate) row: RowAt,
    /// Records of its own that wait.
    pub(crate) parked: i64,
}

impl Claim {
    /// The same once `record` is finished.
    pub(crate) fn past(self, record: &Record) -> Self {
        Self { next_offset: record.offset.next(), last: Some(Landmark::from(record)), ..self }
    }
}

/// A record by its place and time: another one at that place shows that the log is another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Landmark {
    pub(crate) offset: Offset,
    /// Milliseconds since the Unix epoch; 0 when the broker gave none.
    pub(crate) timestamp_ms: i64,
}

impl From<&Record> for Landmark {
    fn from(record: &Record) -> Self {
        Self { offset: record.offset, timestamp_ms: record.timestamp_ms }
    }
}

/// A lease that is locked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Held {
    /// Where its row lies.
    pub(crate) row: RowAt,
    /// What time it is there.
    pub(crate) now: DateTime<Utc>,
}

/// Locks the lease in the batch transaction, and says where its row lies and what time it is there. `None` when the epoch or the offset moved on:
/// somebody else owns it, or a commit whose reply was lost has happened.
pub(crate) async fn hold(
    tx: &Transaction<'_>,
    consumer: &str,
    source: &TopicPartition,
    claim: &Claim,
) -> Result<Option<Held>, tokio_postgres::Error> {
    const HERE: &str = "SELECT ctid, clock_timestamp() FROM partition_lease
             WHERE ctid = $6 AND consumer = $1 AND topic = $2 AND partition = $3 AND epoch = $4 AND next_offset = $5
             FOR UPDATE";
    const ANYWHERE: &str = "SELECT ctid, clock_timestamp() FROM partition_lease
             WHERE consumer = $1 AND topic = $2 AND partition = $3 AND epoch = $4 AND next_offset = $5 FOR UPDATE";
    let held = |row: &Row| Held { row: row.get(0), now: row.get(1) };
    let of_claim: [&(dyn ToSql + Sync); 6] =
        [&consumer, &&*source.topic, &source.partition, &claim.epoch, &claim.next_offset.0, &claim.row];
    let statement = tx.prepare_cached(HERE).await?;
    if let Some(row) = tx.query_opt(&statement, &of_claim).await? {
        return Ok(Some(held(&row)));
    }
    // Somebody has changed the row without taking it: an operator, or whoever notes how far it is.
    let statement = tx.prepare_cached(ANYWHERE).await?;
    let row = tx.query_opt(&statement, &of_claim[..5]).await?;
    Ok(row.as_ref().map(held))
}

/// What moving a lease leaves.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Advanced {
    /// Offsets without an outcome: anything but 0 is a bug, and the batch must not be committed.
    pub(crate) left: i64,
    /// Where the row lies now.
    pub(crate) row: RowAt,
}

static ADVANCE: LazyLock<String> = LazyLock::new(|| {
    format!(
        "WITH noted AS (
            INSERT INTO offset_journal (consumer, topic, partition, from_offset, next_offset, outcomes, at, epoch)
            SELECT $1, $2, $3, $5, $6, $15, now(), $4 WHERE $15::text <> ''
         )
         UPDATE partition_lease
         SET next_offset = $6, outbox_seq = $7, applied = applied + $8, duplicate = duplicate + $9,
             parked = parked + $10, dead = dead + $11, ignored = ignored + $12, moved = moved + $13, gaps = gaps + $14,
             intent_offset = NULL, intent_parked = NULL, intent_until = NULL, intent_rows = NULL, deaths = 0,
             last_offset = $16, last_timestamp_ms = $17, letter_seq = $19
         WHERE ctid = $18 AND consumer = $1 AND topic = $2 AND partition = $3 AND epoch = $4 AND next_offset = $5
         RETURNING {UNACCOUNTED}, ctid"
    )
});

/// Moves the lease forward with the batch's outcomes, which `journal` names offset by offset; an empty one says that no
/// offset was finished. `from` names the row as [`hold`] found it. `None` when the lease is somebody else's.
pub(crate) async fn advance<C: GenericClient>(
    client: &C,
    consumer: &str,
    source: &TopicPartition,
    from: &Claim,
    to: &Claim,
    counts: &Counts,
    journal: &str,
) -> Result<Option<Advanced>, tokio_postgres::Error> {
    let statement = client.prepare_cached(&ADVANCE).await?;
    let row = client
        .query_opt(
            &statement,
            &[
                &consumer,
                &&*source.topic,
                &source.partition,
                &from.epoch,
                &from.next_offset.0,
                &to.next_offset.0,
                &to.outbox_seq,
                &counts.applied,
                &counts.duplicate,
                &counts.parked,
                &counts.dead,
                &counts.ignored,
                &counts.moved,
                &counts.gaps,
                &journal,
                &to.last.map(|last| last.offset.0),
                &to.last.map(|last| last.timestamp_ms),
                &from.row,
                &to.letter_seq,
            ],
        )
        .await?;
    Ok(row.map(|row| Advanced { left: row.get(0), row: row.get(1) }))
}

/// Says that the owner left with nothing half done.
pub(crate) async fn release<C: GenericClient>(
    client: &C,
    consumer: &str,
    source: &TopicPartition,
    claim: &Claim,
) -> Result<(), tokio_postgres::Error> {
    let statement = client
        .prepare_cached(
            "UPDATE partition_lease
             SET clean = true, intent_offset = NULL, intent_parked = NULL, intent_until = NULL, intent_rows = NULL, deaths = 0
             WHERE consumer = $1 AND topic = $2 AND partition = $3 AND epoch = $4",
        )
        .await?;
    client.execute(&statement, &[&consumer, &&*source.topic, &source.partition, &claim.epoch]).await?;
    Ok(())
}
