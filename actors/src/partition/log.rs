//! What a partition's log shows apart from records: offsets at its end that hold none, and that it is another log.
//!
//! Offsets without a record at the end are a transaction's marker, or records of one that was aborted.
//! A gap is counted with the record behind it; behind these none may ever come. So they are passed on their own once the lane is
//! idle: the lag is 0 then, and retention that deletes them later deletes nothing unread.

use dead_letters::NextOffset;

use super::{
    fenced::{FencedTransaction, Passed},
    work::{Next, Work},
};
use crate::{
    Cause,
    connection::Connection,
    handler::Handler,
    lease::{
        self, Claim, Counts, Landmark,
        journal::{Mark, Runs},
    },
    outbox::Rows,
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
        let counts = Counts { gaps: to.0 - claim.next_offset.0, ..Counts::default() };
        let mut runs = Runs::default();
        runs.push(Mark::Gap, counts.gaps);
        let passed = Passed { to: Claim { next_offset: to, ..claim }, counts, journal: runs.finish() };
        let outbox = &self.outbox;
        let transact = async |tx: FencedTransaction<'_>| tx.finish(outbox, &Rows::default(), &passed).await;
        match FencedTransaction::run(&self.shared, &self.lane.source, &claim, transact).await {
            Ok((claim, deleted)) => {
                self.claim = Some(claim);
                self.lane.finish(to);
                self.outbox.deleted(deleted);
                self.reached();
                Next::Again
            }
            Err(error) => self.failed(error),
        }
    }
}
