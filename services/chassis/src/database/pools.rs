//! Connections by what they are for.
//!
//! Who waits for a connection waits behind everybody who came before. So batches do not share theirs with requests, nor the
//! door at which orders come in with whoever reads them: a crowd at one of them is its own crowd.

use std::time::Duration;

use deadpool_postgres::Pool;

use super::{error::DatabaseError, reach::Database};

/// For what comes in and what is called off, and the heartbeats of their outboxes.
const INTAKE: usize = 3;
/// For what looks after the tables, for readiness and for operators.
const HOUSEKEEPING: usize = 3;
/// For claims and the like, beside the batches.
const BESIDE_BATCHES: usize = 2;
/// A reader is told to come back after this, and not left waiting with all those behind it.
const READ_WAIT: Duration = Duration::from_millis(250);

/// A service's connections.
#[derive(Clone, Debug)]
pub struct Pools {
    /// For batches and claims.
    pub pipeline: Pool,
    /// For writing what requests bring.
    pub intake: Pool,
    /// For requests that read. Whoever waits longer than 250 ms gets none.
    pub reads: Pool,
    /// For all that goes on beside.
    pub housekeeping: Pool,
}

impl Pools {
    /// Closes all of them.
    pub fn close(&self) {
        [&self.pipeline, &self.intake, &self.reads, &self.housekeeping].into_iter().for_each(Pool::close);
    }
}

/// How many there are of each: pipeline and reads.
fn shares(connections: usize) -> (usize, usize) {
    let reads = (connections / 4).max(1);
    (connections.saturating_sub(INTAKE + HOUSEKEEPING + reads), reads)
}

impl Database {
    /// At most `connections` in all, of a service that runs `transactions` batches at a time.
    ///
    /// # Errors
    /// When those are too few, or a pool's settings are refused.
    pub fn pools(&self, connections: usize, transactions: usize) -> Result<Pools, DatabaseError> {
        let needed = transactions.saturating_add(BESIDE_BATCHES);
        let (pipeline, reads) = shares(connections);
        if pipeline < needed {
            let least = (connections..).find(|connections| shares(*connections).0 >= needed);
            let least = least.unwrap_or(usize::MAX);
            return Err(DatabaseError::TooFew { connections, transactions, least });
        }
        Ok(Pools {
            pipeline: self.pool(pipeline)?,
            intake: self.pool(INTAKE)?,
            reads: self.pool_with(reads, READ_WAIT)?,
            housekeeping: self.pool(HOUSEKEEPING)?,
        })
    }
}

#[cfg(test)]
mod tests;
