//! What an operator may do to a group's partitions while it runs.
//!
//! Whoever takes an operator's wish in knows who it is, and logs it; here it is said for debugging alone, so that it is one line.

use std::time::Duration;

use chrono::{DateTime, Utc};
use dead_letters::{NextOffset, TopicPartition};
use thiserror::Error;

use super::Group;
use crate::{
    Cause, LaneState, WhichParked,
    connection::{Connection, Trouble},
    detach::detached,
    kafka::Watermarks,
    lease, metrics,
    partition::Supervise,
    retry,
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
    /// Nothing of the kind waits.
    #[error("nothing with {0} waits there: `/parked` lists what does")]
    NothingWaits(WhichParked),
    /// Another record of its key runs first.
    #[error("record {id} waits behind {head} of its key: that one comes first")]
    Behind {
        /// The record asked for.
        id: i64,
        /// The first of its key.
        head: i64,
    },
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
    /// A halted partition tries again; whether it is paused could not be changed.
    #[error("{partition} tries again, but if it is paused it stays so: {cause}; resume it once more")]
    Half {
        /// The partition.
        partition: TopicPartition,
        /// Why.
        cause: Cause,
    },
    /// Records that nobody has handled would be skipped.
    #[error(
        "{partition} is at offset {at}: a reset to {wanted} loses {} records; pause it, and say `force` and `from`: {at} if that \
         is what is wanted", wanted - at.max(low)
    )]
    Loses {
        /// The partition.
        partition: TopicPartition,
        /// First offset there is.
        low: i64,
        /// Where it is.
        at: i64,
        /// The offset asked for.
        wanted: i64,
    },
    /// It is not where whoever asks believes it is.
    #[error("{partition} is at offset {at}, not {expected}: look again, and pause it while you do")]
    Moved {
        /// The partition.
        partition: TopicPartition,
        /// Where it is.
        at: i64,
        /// Where it was said to be.
        expected: i64,
    },
    /// PostgreSQL or Kafka could not be asked.
    #[error("{0}")]
    Unavailable(Cause),
}

/// What whoever asks for a reset has said beside where to.
///
/// ```no_run
/// use actors::{Consent, Group, OperateError, ResetTo, TopicPartition};
///
/// # async fn example(member: Group) -> Result<(), OperateError> {
/// // Skips what is left, from where it was seen to be: offsets 88 and up are lost.
/// let consent = Consent { force: true, from: Some(88) };
/// let (from, to) = member.reset(TopicPartition::new("clicks", 0), ResetTo::End, consent).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Consent {
    /// Yes, also where effects may happen twice or records are lost.
    pub force: bool,
    /// The offset the partition is believed to be at; it is not moved from another. Needed where records are lost.
    pub from: Option<i64>,
}

impl Consent {
    /// Whether a partition at `at`, whose log begins at `low`, may be moved to `wanted`.
    fn allows(self, partition: &TopicPartition, low: i64, at: i64, wanted: i64) -> Result<(), OperateError> {
        let partition = || partition.clone();
        if let Some(expected) = self.from.filter(|from| *from != at) {
            return Err(OperateError::Moved { partition: partition(), at, expected });
        }
        let agreed = self.force && self.from.is_some();
        if wanted > at.max(low) && !agreed {
            return Err(OperateError::Loses { partition: partition(), low, at, wanted });
        }
        Ok(())
    }
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
        match (halted, paused) {
            // It was halted before it was ever claimed: there is nothing that could be paused.
            (Some(_), Ok(()) | Err(OperateError::Unknown { .. })) => {
                self.start_over(partition);
                Ok(())
            }
            (Some(_), Err(error)) => {
                self.start_over(partition.clone());
                Err(OperateError::Half { partition, cause: Cause::from_error("unavailable", &error) })
            }
            (None, paused) => paused,
        }
    }

    async fn set_paused(&self, partition: TopicPartition, paused: bool) -> Result<(), OperateError> {
        let connection = self.connection().await?;
        let set = lease::set_paused(&connection, &self.inner.name, &partition, paused);
        if !connection.write(&self.inner.limits, set).await.map_err(unavailable)? {
            return Err(OperateError::Unknown { group: self.inner.name.clone(), partition });
        }
        tracing::debug!(
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
    /// back than that, and forward, it goes only with [`Consent`]. Returns from and to.
    ///
    /// # Errors
    /// See [`OperateError`].
    pub async fn reset(
        &self,
        partition: TopicPartition,
        to: ResetTo,
        consent: Consent,
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
        if to < remembered && !consent.force {
            return Err(OperateError::Forgotten { partition, wanted: to, safe: remembered });
        }
        let connection = self.connection().await?;
        let (limits, name, cluster) = (&self.inner.limits, &self.inner.name, &self.inner.cluster_id);
        let unknown = || OperateError::Unknown { group: name.clone(), partition: partition.clone() };
        let place = async || {
            let at = connection.read(limits, lease::place(&connection, name, &partition)).await;
            at.map_err(unavailable)?.ok_or_else(unknown)
        };
        let NextOffset(at) = place().await?;
        consent.allows(&partition, low, at, to)?;
        let reset = lease::reset(&connection, name, &partition, consent.from, NextOffset(to), cluster);
        let Some(from) = connection.write(limits, reset).await.map_err(unavailable)? else {
            // It went on since.
            let NextOffset(at) = place().await?;
            return Err(OperateError::Moved { partition, at, expected: consent.from.unwrap_or(at) });
        };
        // As the lease counts them.
        let lost = (to - from.0).max(0);
        metrics::lost(name, &partition.topic, lost);
        tracing::debug!(
            topic = &*partition.topic,
            partition = partition.partition,
            from = from.0,
            to,
            lost,
            "the partition was reset by an operator"
        );
        // Whoever has it is fenced by the reset and claims again; here that need not wait.
        self.start_over(partition);
        Ok((from.0, to))
    }

    /// Lets the waiting record run now. How its partition is, on which it depends whether now is at once.
    ///
    /// # Errors
    /// See [`OperateError`].
    pub async fn retry_parked(
        &self,
        partition: TopicPartition,
        which: WhichParked,
    ) -> Result<LaneState, OperateError> {
        self.hurry_parked(partition, which, None).await
    }

    /// Makes the waiting record a dead letter now, of class `exhausted` and with the code of its last failure; those behind it go
    /// on. `reason` is for whoever finds the letter. How its partition is.
    ///
    /// # Errors
    /// See [`OperateError`].
    pub async fn dead_letter_parked(
        &self,
        partition: TopicPartition,
        which: WhichParked,
        reason: &str,
    ) -> Result<LaneState, OperateError> {
        self.hurry_parked(partition, which, Some(reason)).await
    }

    async fn hurry_parked(
        &self,
        partition: TopicPartition,
        which: WhichParked,
        dead_letter: Option<&str>,
    ) -> Result<LaneState, OperateError> {
        let Some(lane) = self.inner.consumers.lane(&partition) else {
            return Err(OperateError::NotHere(partition));
        };
        let (connection, limits) = (self.connection().await?, &self.inner.limits);
        let find = retry::find(&*connection, &self.inner.name, &partition, &which);
        let found = connection.read(limits, find).await.map_err(unavailable)?;
        let Some((id, head)) = found else { return Err(OperateError::NothingWaits(which)) };
        if id != head {
            return Err(OperateError::Behind { id, head });
        }
        let hurry = retry::hurry(&*connection, id, dead_letter);
        if !connection.write(limits, hurry).await.map_err(unavailable)? {
            return Err(OperateError::NothingWaits(which));
        }
        let what = if dead_letter.is_some() { "dead-letter now" } else { "retry now" };
        let (topic, partition) = (&*partition.topic, partition.partition);
        tracing::debug!(topic, partition, %which, what, "told by an operator");
        // Whenever it is due is news.
        lane.notice(vec![(id, DateTime::<Utc>::MIN_UTC)]);
        Ok(lane.state())
    }

    fn start_over(&self, partition: TopicPartition) {
        detached(|| self.inner.supervisor.cast(Supervise::Resume(partition)).unwrap_or_default());
    }

    async fn connection(&self) -> Result<Connection, OperateError> {
        Connection::get(&self.inner.pool).await.map_err(unavailable)
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

fn unavailable(trouble: Trouble) -> OperateError {
    OperateError::Unavailable(trouble.cause())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_loses_records_needs_force_and_the_place() {
        let partition = TopicPartition::new("orders", 0);
        let allows = |force, from, wanted| Consent { force, from }.allows(&partition, 10, 50, wanted);
        for (force, from, wanted) in
            [(false, None, 20), (false, None, 50), (true, Some(50), 60), (false, Some(50), 20)]
        {
            assert!(allows(force, from, wanted).is_ok(), "{force} {from:?} {wanted}");
        }
        for (force, from) in [(false, None), (true, None), (false, Some(50))] {
            assert!(
                matches!(allows(force, from, 60), Err(OperateError::Loses { at: 50, .. })),
                "{force} {from:?}"
            );
        }
        for wanted in [20, 60] {
            assert!(
                matches!(allows(true, Some(49), wanted), Err(OperateError::Moved { at: 50, .. })),
                "{wanted}"
            );
        }
        let behind = Consent::default().allows(&partition, 70, 50, 70);
        assert!(behind.is_ok(), "what is not in the log any more is not lost by this");
    }
}
