//! The transaction that moves a lease, whatever is done on the way: a batch, records that go back to their lanes, offsets that
//! hold no record.
//!
//! It holds the lease first and moves it last: whoever has lost the lease changes nothing, and no offset is passed without an
//! outcome.

use std::ops::Deref;

use chrono::{DateTime, Utc};
use dead_letters::TopicPartition;
use deadpool_postgres::{Client, Transaction};

use super::{
    pipeline::{BatchError, commit_error, fenced, ours, unaccounted, unanswered},
    shared::Shared,
};
use crate::{
    connection::{Connection, Verdict},
    handler::Handler,
    lease::{self, Advanced, Claim, Counts},
    outbox::{Rows, Spans, Streams},
};

/// A transaction in which the lease is locked, under the epoch and at the offset that its owner believes in.
pub(crate) struct FencedTransaction<'a> {
    tx: Transaction<'a>,
    group: &'a str,
    source: &'a TopicPartition,
    from: Claim,
    now: DateTime<Utc>,
}

/// Where a lease moves, and what became of the offsets on the way.
#[derive(Debug)]
pub(crate) struct Passed {
    /// The next offset, and the last record before it.
    pub(crate) to: Claim,
    pub(crate) counts: Counts,
    /// The same offset by offset, for the journal; empty where none is passed.
    pub(crate) journal: String,
}

impl FencedTransaction<'_> {
    /// Runs `work` in one, within the limits of a transaction. One that is not answered in time may have happened.
    pub(crate) async fn run<H: Handler, T, E: Verdict + From<BatchError>>(
        shared: &Shared<H>,
        source: &TopicPartition,
        claim: &Claim,
        work: impl AsyncFnOnce(FencedTransaction<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        let mut connection = Connection::get(&shared.pool).await.map_err(BatchError::from)?;
        let client = connection.begin();
        let transact = async { work(FencedTransaction::begin(client, shared, source, claim).await?).await };
        let ended = shared.settings.limits.within(transact).await.map_err(unanswered)?;
        connection.settle(&ended);
        ended
    }
}

impl<'a> FencedTransaction<'a> {
    /// Begins it and locks the lease.
    async fn begin<H: Handler>(
        client: &'a mut Client,
        shared: &'a Shared<H>,
        source: &'a TopicPartition,
        claim: &Claim,
    ) -> Result<Self, BatchError> {
        let group = shared.settings.group.as_str();
        let tx = client.transaction().await.map_err(|error| ours(&error))?;
        // One round trip: the server runs one after the other.
        let set = shared.settings.limits.set();
        let held = lease::hold(&tx, group, source, claim);
        let ((), held) =
            tokio::try_join!(biased; tx.batch_execute(&set), held).map_err(|error| ours(&error))?;
        let held = held.ok_or_else(fenced)?;
        shared.clock.set(held.now);
        Ok(Self { tx, group, source, from: Claim { row: held.row, ..*claim }, now: held.now })
    }

    /// What time it is there, for all that is done in it.
    pub(crate) fn now(&self) -> DateTime<Utc> {
        self.now
    }

    /// Writes what is to be published and deletes what Kafka has of earlier rows, moves the lease, and commits if every offset
    /// on the way has an outcome. Returns the lease as it is then, and what was deleted.
    pub(crate) async fn finish(
        self,
        outbox: &Streams,
        rows: &Rows,
        passed: &Passed,
    ) -> Result<(Claim, Spans), BatchError> {
        let Self { tx, group, source, from, .. } = self;
        let Passed { to, counts, journal } = passed;
        let to = rows.numbered(Claim { parked: from.parked + counts.parked, ..*to });
        let deleted = outbox.write(&tx, rows).await.map_err(|error| ours(&error))?;
        failpoint!(BatchWritten);
        let advanced = lease::advance(&tx, group, source, &from, &to, counts, journal).await;
        let Advanced { left, row } = advanced.map_err(|error| ours(&error))?.ok_or_else(fenced)?;
        // Both sums have to hold: this batch's, and the lease's since its first offset.
        if left != 0 || counts.sum() != to.next_offset.0 - from.next_offset.0 {
            return Err(unaccounted(left, source, counts));
        }
        failpoint!(BatchAdvanced);
        tx.commit().await.map_err(|error| commit_error(&error))?;
        Ok((Claim { row, ..to }, deleted))
    }
}

impl<'a> Deref for FencedTransaction<'a> {
    type Target = Transaction<'a>;

    fn deref(&self) -> &Transaction<'a> {
        &self.tx
    }
}
