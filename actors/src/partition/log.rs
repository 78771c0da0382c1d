//! What a partition's log shows apart from records: offsets at its end that hold none, and that it is another log.
//!
//! Offsets without a record at the end are a transaction's marker, or records of one that was aborted.
//! A gap is counted with the record behind it; behind these none may ever come. So they are passed on their own once the lane is
//! idle: the lag is 0 then, and retention that deletes them later deletes nothing unread.

use dead_letters::NextOffset;
use deadpool_postgres::Client;

use super::{
    pipeline::{BatchError, commit_error, fenced, ours, unaccounted, unanswered},
    work::{Next, Work},
};
use crate::{
    Cause,
    connection::Connection,
    handler::Handler,
    lease::{
        self, Advanced, Claim, Counts, Landmark, RowAt,
        journal::{Mark, Runs},
    },
};

impl<H: Handler> Work<H> {
    /// Halts since the log is not the one that was read, or cannot be read, so that the next owner halts too: what it would begin
    /// with may have been read from the other log already.
    pub(super) async fn halt_on_log(
        &mut self,
        claim: &Claim,
        cause: &Cause,
        landmark: Option<Landmark>,
    ) -> Next {
        let (group, source) = (&self.shared.settings.group, &self.lane.source);
        if let Some(landmark) = landmark {
            let remembered = async {
                let connection = Connection::get(&self.shared.pool).await?;
                let remember = lease::remember(&*connection, group, source, claim, landmark);
                connection.write(&self.shared.settings.limits, remember).await
            };
            if let Err(trouble) = remembered.await {
                // The window stays as it is: the next step tries again.
                return self.failed(trouble.into());
            }
        }
        self.halt(cause)
    }

    /// Moves the lease to `to`; there are no records on the way.
    pub(super) async fn pass_gap(&mut self, claim: Claim, to: NextOffset) -> Next {
        match self.commit_gap(&claim, to).await {
            Ok(row) => {
                self.claim = Some(Claim { next_offset: to, row, ..claim });
                self.lane.finish(to);
                self.reached();
                Next::Again
            }
            Err(error) => self.failed(error),
        }
    }

    async fn commit_gap(&self, claim: &Claim, to: NextOffset) -> Result<RowAt, BatchError> {
        let limits = &self.shared.settings.limits;
        let mut connection = Connection::get(&self.shared.pool).await?;
        let gap = self.transact_gap(connection.begin(), claim, to);
        let ended = limits.within(gap).await.map_err(unanswered)?;
        connection.settle(&ended);
        ended
    }

    async fn transact_gap(
        &self,
        client: &mut Client,
        claim: &Claim,
        to: NextOffset,
    ) -> Result<RowAt, BatchError> {
        let (group, source) = (&self.shared.settings.group, &self.lane.source);
        let counts = Counts { gaps: to.0 - claim.next_offset.0, ..Counts::default() };
        let mut runs = Runs::default();
        runs.push(Mark::Gap, counts.gaps);
        let tx = client.transaction().await.map_err(|error| ours(&error))?;
        let set = self.shared.settings.limits.set();
        let held = lease::hold(&tx, group, source, claim);
        let ((), held) =
            tokio::try_join!(biased; tx.batch_execute(&set), held).map_err(|error| ours(&error))?;
        let from = Claim { row: held.ok_or_else(fenced)?.row, ..*claim };
        let moved = Claim { next_offset: to, ..from };
        let advanced = lease::advance(&tx, group, source, &from, &moved, &counts, &runs.finish()).await;
        match advanced.map_err(|error| ours(&error))? {
            None => Err(fenced()),
            Some(Advanced { left: 0, row }) => {
                tx.commit().await.map_err(|error| commit_error(&error)).map(|()| row)
            }
            Some(Advanced { left, .. }) => Err(unaccounted(left, source, &counts)),
        }
    }
}
