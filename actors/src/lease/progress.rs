//! Since when nothing that was written before has to be handled any more.
//!
//! A record may come twice, the second time long after the first, if its partition stood still in between. So the inbox
//! forgets nothing that a partition may still bring, and each lease says how far back that is: `caught_up_at`.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use chrono::{DateTime, Utc};
use dead_letters::TopicPartition;
use deadpool_postgres::GenericClient;
use tokio_postgres::Error;

/// Where the log ends is known so late at the most.
const HEARSAY: Duration = Duration::from_secs(3);

/// How far a lane is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Progress {
    /// Of its claim.
    pub(crate) epoch: i64,
    /// The next offset to finish.
    pub(crate) position: i64,
    /// One past the last offset Kafka has, as far as is known.
    pub(crate) log_end: i64,
}

/// A lane that had handled, `ago`, everything that was written before then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CaughtUp {
    pub(crate) source: TopicPartition,
    pub(crate) epoch: i64,
    pub(crate) ago: Duration,
}

/// Looks at lanes now and then. A busy one may never be at its end when it is looked at: so the end is noted, and the lane has
/// caught up with that moment once it is past that place. The first time in an epoch it is told at once, for the epoch may end soon;
/// afterwards now and then.
#[derive(Debug)]
pub(crate) struct Marks {
    /// Time between what is told of a lane.
    every: Duration,
    lanes: HashMap<TopicPartition, Mark>,
}

#[derive(Clone, Copy, Debug)]
struct Mark {
    epoch: i64,
    log_end: i64,
    at: Instant,
    /// When it was last told in this epoch.
    told: Option<Instant>,
}

impl Marks {
    pub(crate) fn new(every: Duration) -> Self {
        Self { every, lanes: HashMap::new() }
    }

    /// Who has caught up since the last look. A lane without progress stands still.
    pub(crate) fn look(
        &mut self,
        now: Instant,
        lanes: impl Iterator<Item = (TopicPartition, Option<Progress>)>,
    ) -> Vec<CaughtUp> {
        let (mut marks, mut caught_up) = (HashMap::new(), Vec::new());
        for (source, progress) in lanes {
            let Some(Progress { epoch, position, log_end }) = progress else { continue };
            let fresh = Mark { epoch, log_end, at: now, told: None };
            let mark = match self.lanes.get(&source).filter(|mark| mark.epoch == epoch) {
                Some(mark) if position < mark.log_end => *mark,
                Some(mark) => {
                    if mark.told.is_none_or(|told| now.duration_since(told) >= self.every) {
                        let ago = now.duration_since(mark.at) + HEARSAY;
                        caught_up.push(CaughtUp { source: source.clone(), epoch, ago });
                    }
                    Mark { told: mark.told, ..fresh }
                }
                None => fresh,
            };
            marks.insert(source, mark);
        }
        self.lanes = marks;
        caught_up
    }

    /// It was written down of these. Of the others it was not: their leases were held, and they are told of again.
    pub(crate) fn written(&mut self, now: Instant, lanes: &[TopicPartition]) {
        for source in lanes {
            if let Some(mark) = self.lanes.get_mut(source) {
                mark.told = Some(now);
            }
        }
    }
}

/// Up to when `group` has handled everything that was written to `topics`: what is older than that has been heard, by whichever process.
/// Noted every ten seconds; `None` where no partition was ever claimed.
///
/// # Errors
/// Of PostgreSQL.
pub async fn caught_up<C: GenericClient>(
    client: &C,
    group: &str,
    topics: &[&str],
) -> Result<Option<DateTime<Utc>>, Error> {
    const SQL: &str =
        "SELECT min(caught_up_at) FROM partition_lease WHERE consumer = $1 AND topic = ANY ($2)";
    let statement = client.prepare_cached(SQL).await?;
    client.query_one(&statement, &[&group, &topics]).await?.try_get(0)
}

/// Writes it down, of leases that nobody holds at this moment: a lane must not wait for another's batch. Of which it was.
pub(crate) async fn write_caught_up(
    client: &deadpool_postgres::Client,
    consumer: &str,
    lanes: &[CaughtUp],
) -> Result<Vec<TopicPartition>, Error> {
    let statement = client
        .prepare_cached(
            "WITH free AS MATERIALIZED (
                SELECT lease.ctid AS place, new.ago
                FROM partition_lease AS lease
                JOIN unnest($2::text[], $3::int[], $4::bigint[], $5::float8[]) AS new (topic, partition, epoch, ago)
                  ON lease.topic = new.topic AND lease.partition = new.partition AND lease.epoch = new.epoch
                WHERE lease.consumer = $1 FOR NO KEY UPDATE OF lease SKIP LOCKED
             )
             UPDATE partition_lease AS lease
             SET caught_up_at = greatest(lease.caught_up_at, now() - make_interval(secs => free.ago))
             FROM free WHERE lease.ctid = free.place RETURNING lease.topic, lease.partition",
        )
        .await?;
    let topics: Vec<&str> = lanes.iter().map(|lane| &*lane.source.topic).collect();
    let partitions: Vec<i32> = lanes.iter().map(|lane| lane.source.partition).collect();
    let epochs: Vec<i64> = lanes.iter().map(|lane| lane.epoch).collect();
    let ages: Vec<f64> = lanes.iter().map(|lane| lane.ago.as_secs_f64()).collect();
    let rows = client.query(&statement, &[&consumer, &topics, &partitions, &epochs, &ages]).await?;
    Ok(rows.iter().map(|row| TopicPartition::new(row.get::<_, &str>(0), row.get(1))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lane_has_caught_up_with_the_moment_at_which_its_log_ended_there() {
        let (mut marks, start) = (Marks::new(Duration::from_secs(1)), Instant::now());
        let source = TopicPartition::new("orders", 0);
        // Seconds, epoch, position, log end; and how long ago it had caught up, if it had.
        let looks = [
            (0, 1, 0, 0, None),
            (1, 1, 50, 100, Some(1)),
            // At the end that was seen a second ago: not at that of now.
            (2, 1, 90, 200, None),
            (3, 1, 100, 300, Some(2)),
            (4, 1, 299, 400, None),
            // Another claim: whatever was seen before may be another log's.
            (5, 2, 400, 400, None),
            (6, 2, 400, 400, Some(1)),
        ];
        for (second, epoch, position, log_end, expected) in looks {
            let now = start + Duration::from_secs(second);
            let progress = Some(Progress { epoch, position, log_end });
            let found = marks.look(now, [(source.clone(), progress)].into_iter());
            let ago = expected.map(|ago| Duration::from_secs(ago) + HEARSAY);
            assert_eq!(found.iter().map(|lane| lane.ago).next(), ago, "at {second}");
        }
    }

    #[test]
    fn one_that_stands_still_does_not_catch_up() {
        let (mut marks, start) = (Marks::new(Duration::from_secs(1)), Instant::now());
        let source = TopicPartition::new("orders", 0);
        let works = Some(Progress { epoch: 1, position: 7, log_end: 7 });
        for (second, progress, expected) in [(0, works, 0), (1, works, 1), (2, None, 0), (9, works, 0)] {
            let now = start + Duration::from_secs(second);
            assert_eq!(marks.look(now, [(source.clone(), progress)].into_iter()).len(), expected);
        }
    }

    /// One that changes its owner again and again is at its end in between, if only for a moment.
    #[test]
    fn a_lane_is_told_of_at_once_in_each_epoch_and_then_seldom() {
        let (mut marks, start) = (Marks::new(Duration::from_secs(10)), Instant::now());
        let source = TopicPartition::new("orders", 0);
        for (second, epoch, expected) in [
            (0, 1, 0),
            (2, 1, 1),
            (4, 1, 1),
            (6, 1, 0),
            (12, 1, 0),
            (14, 1, 1),
            (16, 2, 0),
            (18, 2, 1),
            (20, 2, 0),
        ] {
            let progress = Some(Progress { epoch, position: 7, log_end: 7 });
            let now = start + Duration::from_secs(second);
            let found = marks.look(now, [(source.clone(), progress)].into_iter());
            assert_eq!(found.len(), expected, "at {second}");
            // The first time its lease was held by a batch.
            if second != 2 {
                marks.written(now, &found.into_iter().map(|lane| lane.source).collect::<Vec<_>>());
            }
        }
    }
}
