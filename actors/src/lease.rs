//! Who owns a partition, how far it is, and what became of every offset.
//!
//! `next_offset` here, not Kafka's committed offset, is the authority: it moves in the transaction that applies
//! the batch. Every claim raises the epoch, and every batch names the epoch it believes in, so a former owner that wakes
//! up late changes nothing.

use deadpool_postgres::{GenericClient, Transaction};

use crate::{
    Cause,
    record::{NextOffset, TopicPartition},
};

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

/// A partition claimed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Claim {
    pub(crate) epoch: i64,
    pub(crate) next_offset: NextOffset,
    /// Number of the last row written to the lane's outbox.
    pub(crate) outbox_seq: i64,
}

/// The partition's ends in Kafka, seen when it was assigned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Watermarks {
    pub(crate) low: i64,
    pub(crate) high: i64,
}

/// What a claim is made with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ClaimRequest<'a> {
    pub(crate) consumer: &'a str,
    pub(crate) source: &'a TopicPartition,
    pub(crate) owner: &'a str,
    pub(crate) cluster_id: &'a str,
    pub(crate) watermarks: Watermarks,
}

/// A claim that must not be worked with.
#[derive(Debug)]
pub(crate) enum ClaimError {
    /// PostgreSQL failed; claim again.
    Postgres(tokio_postgres::Error),
    /// The lease does not fit this Kafka: an operator has to decide.
    Halt(Cause),
}

impl From<tokio_postgres::Error> for ClaimError {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Postgres(error)
    }
}

/// Claims a partition: raises its epoch and returns where it is. Waits for a batch of a former owner to end.
pub(crate) async fn claim(
    client: &mut deadpool_postgres::Client,
    request: ClaimRequest<'_>,
) -> Result<Claim, ClaimError> {
    let ClaimRequest { consumer, source, owner, cluster_id, watermarks } = request;
    let tx = client.transaction().await?;
    let statement = tx
        .prepare_cached(
            "INSERT INTO partition_lease AS lease
                (consumer, topic, partition, epoch, owner, first_offset, next_offset, cluster_id, clean, claimed_at)
             VALUES ($1, $2, $3, 1, $4, $5, $5, $6, false, now())
             ON CONFLICT (consumer, topic, partition) DO UPDATE
             SET epoch = lease.epoch + 1, owner = excluded.owner, clean = false, claimed_at = now()
             RETURNING epoch, next_offset, outbox_seq, cluster_id",
        )
        .await?;
    let row = tx
        .query_one(
            &statement,
            &[&consumer, &&*source.topic, &source.partition, &owner, &watermarks.low, &cluster_id],
        )
        .await?;
    let mut claim = Claim { epoch: row.get(0), next_offset: NextOffset(row.get(1)), outbox_seq: row.get(2) };
    let known_cluster: &str = row.get(3);
    if known_cluster != cluster_id {
        return Err(ClaimError::Halt(Cause::new(
            "another-cluster",
            format!(
                "{source} was consumed from Kafka cluster {known_cluster} and this one is {cluster_id}: offsets of one mean \
                 nothing in the other; point the service at its cluster, or remove the row of partition_lease to start over"
            ),
        )));
    }
    if claim.next_offset.0 < watermarks.low {
        let lost = watermarks.low - claim.next_offset.0;
        let statement = tx
            .prepare_cached(
                "UPDATE partition_lease SET next_offset = $4, lost = lost + $5
                 WHERE consumer = $1 AND topic = $2 AND partition = $3",
            )
            .await?;
        tx.execute(&statement, &[&consumer, &&*source.topic, &source.partition, &watermarks.low, &lost])
            .await?;
        tracing::error!(
            topic = &*source.topic,
            partition = source.partition,
            from = claim.next_offset.0,
            to = watermarks.low,
            lost,
            "records were deleted by retention before they were read; counted as lost"
        );
        claim.next_offset = NextOffset(watermarks.low);
    }
    if claim.next_offset.0 > watermarks.high {
        return Err(ClaimError::Halt(Cause::new(
            "past-log-end",
            format!(
                "{source} is at offset {} and its log ends at {}: the topic was made anew or Kafka lost data; recreate the \
                 records, or set next_offset in partition_lease to where work is to go on",
                claim.next_offset, watermarks.high
            ),
        )));
    }
    tx.commit().await?;
    Ok(claim)
}

/// Locks the lease in the batch transaction. False when the epoch or the offset moved on: somebody else owns it, or a
/// commit whose reply was lost has happened.
pub(crate) async fn hold(
    tx: &Transaction<'_>,
    consumer: &str,
    source: &TopicPartition,
    claim: &Claim,
) -> Result<bool, tokio_postgres::Error> {
    let statement = tx
        .prepare_cached(
            "SELECT 1 FROM partition_lease
             WHERE consumer = $1 AND topic = $2 AND partition = $3 AND epoch = $4 AND next_offset = $5 FOR UPDATE",
        )
        .await?;
    let row = tx
        .query_opt(
            &statement,
            &[&consumer, &&*source.topic, &source.partition, &claim.epoch, &claim.next_offset.0],
        )
        .await?;
    Ok(row.is_some())
}

/// Moves the lease forward with the batch's outcomes. Returns how many offsets are left without an outcome: anything but
/// 0 is a bug, and the batch must not be committed. `None` when the lease is somebody else's.
pub(crate) async fn advance<C: GenericClient>(
    client: &C,
    consumer: &str,
    source: &TopicPartition,
    from: &Claim,
    to: &Claim,
    counts: &Counts,
) -> Result<Option<i64>, tokio_postgres::Error> {
    let statement = client
        .prepare_cached(
            "UPDATE partition_lease
             SET next_offset = $6, outbox_seq = $7, applied = applied + $8, duplicate = duplicate + $9,
                 parked = parked + $10, dead = dead + $11, ignored = ignored + $12, moved = moved + $13, gaps = gaps + $14
             WHERE consumer = $1 AND topic = $2 AND partition = $3 AND epoch = $4 AND next_offset = $5
             RETURNING next_offset - first_offset
                     - (applied + duplicate + parked + dead + ignored + moved + gaps + lost)",
        )
        .await?;
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
            ],
        )
        .await?;
    Ok(row.map(|row| row.get(0)))
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
            "UPDATE partition_lease SET clean = true WHERE consumer = $1 AND topic = $2 AND partition = $3 AND epoch = $4",
        )
        .await?;
    client.execute(&statement, &[&consumer, &&*source.topic, &source.partition, &claim.epoch]).await?;
    Ok(())
}
