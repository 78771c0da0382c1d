//! Claiming a partition.

use std::fmt;

use chrono::{DateTime, Utc};
use dead_letters::{NextOffset, Offset, TopicPartition};
use deadpool_postgres::GenericClient;
use tokio_postgres::Error;

use super::{Claim, Landmark};
use crate::{
    Cause,
    connection::{Limits, Soundness, Verdict},
    kafka::Watermarks,
};

/// How far behind the next offset the last record may be to be read again.
const LANDMARK_WITHIN: i64 = 100_000;

/// What a claim is made with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ClaimRequest<'a> {
    pub(crate) consumer: &'a str,
    pub(crate) source: &'a TopicPartition,
    pub(crate) owner: &'a str,
    pub(crate) cluster_id: &'a str,
    pub(crate) watermarks: Watermarks,
}

/// A partition claimed, with what its last owner left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Claimed {
    pub(crate) claim: Claim,
    /// An operator has stopped it.
    pub(crate) paused: bool,
    /// The last owner was another process, and its shutdown was unclean.
    pub(crate) unclean: bool,
    /// What time it is there.
    pub(crate) now: DateTime<Utc>,
    /// Offsets that were passed because retention had deleted their records.
    pub(crate) lost: i64,
    /// What that one was trying, and how many processes have ended while they did.
    pub(crate) intent: Option<(Intent, u32)>,
}

/// What is about to be tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Intent {
    /// One record alone.
    One(RecordAt),
    /// Those of the window from `first` on, below `until`.
    Offsets { first: Offset, until: i64 },
    /// Rows of `parked`, in order, two at least.
    Rows(Vec<i64>),
}

/// Offset, the offset behind the last one, row, all rows.
type Columns<'a> = (Option<i64>, Option<i64>, Option<i64>, Option<&'a [i64]>);

impl Intent {
    /// As it is stored.
    fn columns(&self) -> Columns<'_> {
        match self {
            Self::One(RecordAt::Offset(offset)) => (Some(offset.0), None, None, None),
            Self::One(RecordAt::Parked(id)) => (None, None, Some(*id), None),
            Self::Offsets { first, until } => (Some(first.0), Some(*until), None, None),
            Self::Rows(rows) => (None, None, rows.first().copied(), Some(rows)),
        }
    }

    /// What is stored. A version that knows of single records alone leaves the ends of another intent behind.
    fn stored(
        offset: Option<i64>,
        until: Option<i64>,
        row: Option<i64>,
        rows: Option<Vec<i64>>,
    ) -> Option<Self> {
        match (offset, row) {
            (Some(offset), _) => Some(match until.filter(|until| *until > offset + 1) {
                Some(until) => Self::Offsets { first: Offset(offset), until },
                None => Self::One(RecordAt::Offset(Offset(offset))),
            }),
            (None, Some(row)) => Some(match rows.filter(|rows| rows.len() > 1 && rows[0] == row) {
                Some(rows) => Self::Rows(rows),
                None => Self::One(RecordAt::Parked(row)),
            }),
            (None, None) => None,
        }
    }
}

/// Which record is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RecordAt {
    /// One of the window.
    Offset(Offset),
    /// A row of `parked`.
    Parked(i64),
}

impl fmt::Display for Intent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::One(RecordAt::Offset(offset)) => write!(f, "offset {offset}"),
            Self::One(RecordAt::Parked(id)) => write!(f, "parked row {id}"),
            Self::Offsets { first, until } => write!(f, "offsets {first} to {}", until - 1),
            Self::Rows(rows) => write!(f, "{} parked rows", rows.len()),
        }
    }
}

/// A claim that must not be worked with.
#[derive(Debug)]
pub(crate) enum ClaimError {
    /// PostgreSQL failed; claim again.
    Postgres(Error),
    /// The lease does not fit this Kafka: an operator has to decide.
    Halt(Cause),
    /// The lease is past the end of the log, as far as the request knew it.
    PastLogEnd(Cause),
}

impl Verdict for ClaimError {
    fn verdict(&self) -> Soundness {
        match self {
            Self::Postgres(error) => error.verdict(),
            Self::PastLogEnd(_) | Self::Halt(_) => Soundness::Sound,
        }
    }
}

impl From<Error> for ClaimError {
    fn from(error: Error) -> Self {
        Self::Postgres(error)
    }
}

/// Claims a partition: raises its epoch and returns where it is. Waits for a batch of a former owner to end.
pub(crate) async fn claim(
    client: &mut deadpool_postgres::Client,
    request: ClaimRequest<'_>,
    limits: &Limits,
) -> Result<Claimed, ClaimError> {
    let ClaimRequest { consumer, source, owner, cluster_id, watermarks } = request;
    let tx = client.transaction().await?;
    // Locked in a statement of its own: one that waits for a lock sees the rest as it was before the wait.
    let before = async {
        let statement = tx
            .prepare_cached(
                "SELECT clean OR owner = $4 FROM partition_lease
                 WHERE consumer = $1 AND topic = $2 AND partition = $3 FOR UPDATE",
            )
            .await?;
        tx.query_opt(&statement, &[&consumer, &&*source.topic, &source.partition, &owner]).await
    };
    let set = limits.set();
    let ((), before) = tokio::try_join!(biased; tx.batch_execute(&set), before)?;
    let unclean = before.is_some_and(|row| !row.get::<_, bool>(0));
    let statement = tx
        .prepare_cached(
            "INSERT INTO partition_lease AS lease
                (consumer, topic, partition, epoch, owner, first_offset, next_offset, cluster_id, clean, claimed_at)
             VALUES ($1, $2, $3, 1, $4, $5, $5, $6, false, now())
             ON CONFLICT (consumer, topic, partition) DO UPDATE
             SET epoch = lease.epoch + 1, owner = excluded.owner, clean = false, claimed_at = now(),
                 deaths = CASE WHEN $7 AND (lease.intent_offset IS NOT NULL OR lease.intent_parked IS NOT NULL)
                          THEN lease.deaths + 1 ELSE lease.deaths END
             RETURNING epoch, next_offset, outbox_seq, cluster_id, paused, intent_offset, intent_parked, deaths,
                       last_offset, last_timestamp_ms, ctid, letter_seq, parked, clock_timestamp(), intent_until,
                       intent_rows",
        )
        .await?;
    let row = tx
        .query_one(
            &statement,
            &[&consumer, &&*source.topic, &source.partition, &owner, &watermarks.low, &cluster_id, &unclean],
        )
        .await?;
    // Offsets without a record may follow it. Where many do, a version that does not know of it has gone on since: reading
    // would have to begin too far back.
    let (next, last): (i64, Option<i64>) = (row.get(1), row.get(8));
    let at = last.filter(|offset| (1..=LANDMARK_WITHIN).contains(&(next - offset)));
    let last = at.zip(row.get(9));
    let mut claim = Claim {
        epoch: row.get(0),
        next_offset: NextOffset(row.get(1)),
        outbox_seq: row.get(2),
        letter_seq: row.get(11),
        last: last.map(|(offset, timestamp_ms)| Landmark { offset: Offset(offset), timestamp_ms }),
        row: row.get(10),
        parked: row.get(12),
    };
    let known_cluster: &str = row.get(3);
    if known_cluster != cluster_id {
        return Err(ClaimError::Halt(Cause::new(
            "another-cluster",
            format!(
                "{source} was consumed from Kafka cluster {known_cluster} and this one is {cluster_id}: offsets of one mean \
                 nothing in the other; point the service at its cluster, or reset the partition (docs/operations.md)"
            ),
        )));
    }
    let lost = (watermarks.low - claim.next_offset.0).max(0);
    if lost > 0 {
        claim.next_offset = skip_lost(&tx, consumer, source, claim.next_offset.0, watermarks.low).await?;
    }
    if claim.next_offset.0 > watermarks.high {
        return Err(ClaimError::PastLogEnd(Cause::new(
            "past-log-end",
            format!(
                "{source} is at offset {} and its log ends at {}: the topic was made anew or Kafka lost data; \
                 reset the partition once it is known what is missing (docs/operations.md)",
                claim.next_offset, watermarks.high
            ),
        )));
    }
    let intent = Intent::stored(row.get(5), row.get(14), row.get(6), row.get(15));
    let deaths = u32::try_from(row.get::<_, i32>(7)).unwrap_or(0);
    let (paused, now) = (row.get(4), row.get(13));
    tx.commit().await?;
    Ok(Claimed { claim, paused, unclean, now, lost, intent: intent.map(|intent| (intent, deaths)) })
}

/// Goes past records that retention has deleted, and says so loudly.
async fn skip_lost<C: GenericClient>(
    client: &C,
    consumer: &str,
    source: &TopicPartition,
    from: i64,
    low: i64,
) -> Result<NextOffset, Error> {
    let statement = client
        .prepare_cached(
            "UPDATE partition_lease SET next_offset = $4, lost = lost + $5
             WHERE consumer = $1 AND topic = $2 AND partition = $3",
        )
        .await?;
    let lost = low - from;
    client.execute(&statement, &[&consumer, &&*source.topic, &source.partition, &low, &lost]).await?;
    tracing::error!(
        from,
        to = low,
        lost,
        "records were deleted by retention before they were read; counted as lost"
    );
    Ok(NextOffset(low))
}

/// Remembers a record that the log does not hold any more, though it was read there: whoever claims next compares it again, and
/// halts as well, until the partition is reset.
pub(crate) async fn remember<C: GenericClient>(
    client: &C,
    consumer: &str,
    source: &TopicPartition,
    claim: &Claim,
    landmark: Landmark,
) -> Result<(), Error> {
    let statement = client
        .prepare_cached(
            "UPDATE partition_lease SET last_offset = $5, last_timestamp_ms = $6
             WHERE consumer = $1 AND topic = $2 AND partition = $3 AND epoch = $4",
        )
        .await?;
    let Landmark { offset, timestamp_ms } = landmark;
    let lease: [&(dyn tokio_postgres::types::ToSql + Sync); 6] =
        [&consumer, &&*source.topic, &source.partition, &claim.epoch, &offset.0, &timestamp_ms];
    client.execute(&statement, &lease).await?;
    Ok(())
}

/// Says what is about to be tried, so that a process that dies of it is not the last to know. Not waited for on disk: it has
/// to outlive this process, not the server. False when the lease is somebody else's.
pub(crate) async fn write_intent<C: GenericClient>(
    client: &C,
    consumer: &str,
    source: &TopicPartition,
    claim: &Claim,
    intent: &Intent,
) -> Result<bool, Error> {
    let statement = client
        .prepare_cached(
            "UPDATE partition_lease AS lease
             SET intent_offset = $5, intent_until = $6, intent_parked = $7, intent_rows = $8,
                 deaths = CASE WHEN (lease.intent_offset, lease.intent_until, lease.intent_parked, lease.intent_rows)
                                IS NOT DISTINCT FROM ($5::bigint, $6::bigint, $7::bigint, $8::bigint[])
                          THEN lease.deaths ELSE 0 END
             FROM (SELECT set_config('synchronous_commit', 'off', true)) AS settings
             WHERE consumer = $1 AND topic = $2 AND partition = $3 AND epoch = $4",
        )
        .await?;
    let (offset, until, row, rows) = intent.columns();
    let written = client
        .execute(
            &statement,
            &[&consumer, &&*source.topic, &source.partition, &claim.epoch, &offset, &until, &row, &rows],
        )
        .await?;
    Ok(written > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_intent_is_read_as_it_was_written_and_another_versions_leftovers_are_not_taken_for_ends() {
        for intent in [
            Intent::One(RecordAt::Offset(Offset(7))),
            Intent::One(RecordAt::Parked(3)),
            Intent::Offsets { first: Offset(7), until: 9 },
            Intent::Rows(vec![3, 5]),
        ] {
            let (offset, until, row, rows) = intent.columns();
            assert_eq!(Intent::stored(offset, until, row, rows.map(<[i64]>::to_vec)), Some(intent));
        }
        assert_eq!(Intent::stored(None, Some(9), None, Some(vec![1, 2])), None);
        assert_eq!(
            Intent::stored(Some(9), Some(9), None, None),
            Some(Intent::One(RecordAt::Offset(Offset(9))))
        );
        assert_eq!(
            Intent::stored(None, None, Some(8), Some(vec![1, 2])),
            Some(Intent::One(RecordAt::Parked(8)))
        );
    }
}
