//! What an operator may do to a group's partitions while it runs.

use std::time::Duration;

use chrono::Utc;
use thiserror::Error;

use super::Group;
use crate::{
    Cause,
    lease::{self, Watermarks},
    partition::Supervise,
    record::{NextOffset, TopicPartition},
    retry, sql,
};

const GRACE: Duration = Duration::from_secs(24 * 60 * 60);

/// What was asked for was not done.
#[derive(Debug, Error)]
pub enum OperateError {
    /// No member of the group has ever had this partition.
    #[error("group {group} has never had partition {partition}: `/partitions` lists those of this process")]
    Unknown {
        /// The group.
        group: String,
        /// The partition asked for.
        partition: TopicPartition,
    },
    /// Another process has the partition; only that one can do it.
    #[error("partition {0} is not here: ask the process that has it (column owner of partition_lease)")]
    NotHere(TopicPartition),
    /// Nothing of that key waits.
    #[error("nothing of key {0:?} waits there: `/parked` lists what does")]
    NothingWaits(String),
    /// There is no such offset in the log.
    #[error("{partition} has offsets {low} to {high}, not {wanted}")]
    NoSuchOffset {
        /// The partition.
        partition: TopicPartition,
        /// First offset there is.
        low: i64,
        /// One past the last.
        high: i64,
        /// The one asked for.
        wanted: i64,
    },
    /// Events from there on may be forgotten, and would take effect a second time.
    #[error(
        "{partition} cannot go back to offset {wanted}: outcomes of events are remembered from offset {safe} on, and older \
         ones would take effect a second time; say `force` if that is what is wanted"
    )]
    Forgotten {
        /// The partition.
        partition: TopicPartition,
        /// The offset asked for.
        wanted: i64,
        /// The first whose event is surely remembered.
        safe: i64,
    },
    /// PostgreSQL or Kafka could not be asked.
    #[error("{0}")]
    Unavailable(Cause),
}

/// Where a partition is to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResetTo {
    /// At the first record there is.
    Start,
    /// Behind the last one there is.
    End,
    /// At this offset, which must be in the log or at its end.
    Offset(i64),
}

impl Group {
    /// Stops a partition: its records wait, wherever it moves, until [`Group::resume`].
    ///
    /// # Errors
    /// See [`OperateError`].
    pub async fn pause(&self, partition: TopicPartition) -> Result<(), OperateError> {
        self.set_paused(partition, true).await
    }

    /// Lets a paused partition go on, and a halted one of this process try again.
    ///
    /// # Errors
    /// See [`OperateError`].
    pub async fn resume(&self, partition: TopicPartition) -> Result<(), OperateError> {
        let halted = self.inner.consumers.lane(&partition).filter(|lane| lane.is_halted());
        let paused = self.set_paused(partition.clone(), false).await;
        if halted.is_some() {
            self.start_over(partition);
            return Ok(());
        }
        paused
    }

    async fn set_paused(&self, partition: TopicPartition, paused: bool) -> Result<(), OperateError> {
        let client = self.client().await?;
        let known = lease::set_paused(&client, &self.inner.name, &partition, paused).await;
        if !known.map_err(unavailable)? {
            return Err(OperateError::Unknown { group: self.inner.name.clone(), partition });
        }
        tracing::info!(
            topic = &*partition.topic,
            partition = partition.partition,
            paused,
            "told by an operator"
        );
        if let Some(lane) = self.inner.consumers.lane(&partition) {
            lane.set_paused(paused);
            lane.wake();
        }
        Ok(())
    }

    /// Moves a partition, and with it to the cluster this process is connected to. Records skipped are counted as lost, those
    /// gone back over are handled again: the inbox knows the events it has seen, for as long as it remembers them. Further
    /// back than that it goes only with `force`. Returns from and to.
    ///
    /// # Errors
    /// See [`OperateError`].
    pub async fn reset(
        &self,
        partition: TopicPartition,
        to: ResetTo,
        force: bool,
    ) -> Result<(i64, i64), OperateError> {
        let Extent { low, high, remembered } = self.extent(&partition).await?;
        let to = match to {
            ResetTo::Start => low,
            ResetTo::End => high,
            ResetTo::Offset(offset) if (low..=high).contains(&offset) => offset,
            ResetTo::Offset(wanted) => {
                return Err(OperateError::NoSuchOffset { partition, low, high, wanted });
            }
        };
        if to < remembered && !force {
            return Err(OperateError::Forgotten { partition, wanted: to, safe: remembered });
        }
        let client = self.client().await?;
        let cluster = &self.inner.cluster_id;
        let from = lease::reset(&client, &self.inner.name, &partition, NextOffset(to), cluster).await;
        let Some(from) = from.map_err(unavailable)? else {
            return Err(OperateError::Unknown { group: self.inner.name.clone(), partition });
        };
        tracing::warn!(
            topic = &*partition.topic,
            partition = partition.partition,
            from = from.0,
            to,
            "the partition was reset by an operator"
        );
        // Whoever has it is fenced by the reset and claims again; here that need not wait.
        self.start_over(partition);
        Ok((from.0, to))
    }

    /// Lets the waiting record at the head of `key`'s chain run now.
    ///
    /// # Errors
    /// See [`OperateError`].
    pub async fn retry_parked(&self, partition: TopicPartition, key: &str) -> Result<(), OperateError> {
        self.here(&partition)?;
        let client = self.client().await?;
        let found = retry::retry_now(&client, &self.inner.name, &partition, key.as_bytes()).await;
        self.told(found.map_err(unavailable)?, partition, key, "retry now")
    }

    /// Gives the waiting record at the head of `key`'s chain up: a dead letter of class `exhausted`, and its followers go on.
    ///
    /// # Errors
    /// See [`OperateError`].
    pub async fn give_up_parked(
        &self,
        partition: TopicPartition,
        key: &str,
        reason: &str,
    ) -> Result<(), OperateError> {
        self.here(&partition)?;
        let client = self.client().await?;
        let found = retry::give_up(&client, &self.inner.name, &partition, key.as_bytes(), reason).await;
        self.told(found.map_err(unavailable)?, partition, key, "give up")
    }

    fn here(&self, partition: &TopicPartition) -> Result<(), OperateError> {
        match self.inner.consumers.lane(partition) {
            Some(_) => Ok(()),
            None => Err(OperateError::NotHere(partition.clone())),
        }
    }

    fn told(
        &self,
        found: bool,
        partition: TopicPartition,
        key: &str,
        what: &str,
    ) -> Result<(), OperateError> {
        if !found {
            return Err(OperateError::NothingWaits(key.to_owned()));
        }
        tracing::info!(
            topic = &*partition.topic,
            partition = partition.partition,
            key,
            what,
            "told by an operator"
        );
        if let Some(lane) = self.inner.consumers.lane(&partition) {
            lane.chains_changed();
        }
        Ok(())
    }

    fn start_over(&self, partition: TopicPartition) {
        self.inner.supervisor.cast(Supervise::Resume(partition)).unwrap_or_default();
    }

    async fn client(&self) -> Result<deadpool_postgres::Client, OperateError> {
        let client = self.inner.pool.get().await;
        client.map_err(|error| OperateError::Unavailable(Cause::from_error("postgresql-pool", &error)))
    }

    /// Where a partition's log begins and ends, and from where on its events are remembered.
    async fn extent(&self, partition: &TopicPartition) -> Result<Extent, OperateError> {
        // A day's grace: clocks differ, and an event is remembered from when it ended, not from when it was written.
        let age = self.inner.retention.saturating_sub(GRACE);
        let since = (Utc::now() - age).timestamp_millis();
        let log = &self.inner.log_ends;
        let asked = tokio::try_join!(log.watermarks(partition), log.first_since(partition, since));
        let (Watermarks { low, high }, first) = asked.map_err(OperateError::Unavailable)?;
        // Nothing is as young as that.
        Ok(Extent { low, high, remembered: first.unwrap_or(high) })
    }
}

/// A partition's log.
struct Extent {
    low: i64,
    high: i64,
    /// The first offset whose event the inbox surely remembers.
    remembered: i64,
}

fn unavailable(error: tokio_postgres::Error) -> OperateError {
    OperateError::Unavailable(sql::cause(&error))
}
