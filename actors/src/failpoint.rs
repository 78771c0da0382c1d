//! Places where a test makes the process die, or freeze.
//!
//! Only with the cargo feature `failpoints`, which no release build has. A test goes through [`Failpoint::ALL`], so that a
//! new one is tried without being asked for: a variant here and `failpoint!(Variant)` where it belongs is all there is to do.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use rustix::process::{Signal, getpid, kill_process};

macro_rules! failpoints {
    ($($(#[doc = $doc:literal])* $variant:ident = $name:literal,)*) => {
        /// A place in the protocol.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Failpoint {
            $($(#[doc = $doc])* $variant,)*
        }

        impl Failpoint {
            /// Every one there is.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// Its name, as [`arm_from_environment`] takes it.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }
        }
    };
}

failpoints! {
    /// A batch was taken from the window and decoded.
    BatchDecoded = "batch-decoded",
    /// External effects were called; the transaction has not begun.
    BatchPrepared = "batch-prepared",
    /// The lease is locked.
    BatchHeld = "batch-held",
    /// The inbox was written.
    BatchRegistered = "batch-registered",
    /// The handler has decided and saved.
    BatchSaved = "batch-saved",
    /// The outbox and `parked` are written.
    BatchWritten = "batch-written",
    /// Everything is written; COMMIT is next.
    BatchAdvanced = "batch-advanced",
    /// The commit was answered; nobody else knows yet.
    BatchCommitted = "batch-committed",
    /// The lane has moved on and the outbox rows went to the producer; the hints were not sent.
    BatchPublished = "batch-published",
    /// The hints were sent.
    BatchHinted = "batch-hinted",
    /// Waiting records were read from `parked`, to be run.
    ParkedFetched = "parked-fetched",
    /// A claim is about to be made.
    ClaimBegun = "claim-begun",
    /// The claim is committed; nothing else of the partition is known yet.
    ClaimCommitted = "claim-committed",
    /// The intent to try one record alone is written.
    IntentWritten = "intent-written",
    /// What a predecessor left in the outbox was read.
    RelayRead = "relay-read",
    /// Kafka has acknowledged rows, which are still in the table.
    RelayAcknowledged = "relay-acknowledged",
    /// Acknowledged rows of an idle lane were deleted.
    RelayDeleted = "relay-deleted",
    /// An actor has died and is to be restarted.
    RestartPlanned = "restart-planned",
    /// The delay is over; the actor is about to be started.
    RestartDue = "restart-due",
    /// Partitions were assigned and claimed; reading has not begun.
    RebalanceAssigned = "rebalance-assigned",
    /// Partitions are to leave; nothing was drained.
    RebalanceRevoked = "rebalance-revoked",
    /// They are drained; the assignment is not given up.
    RebalanceDrained = "rebalance-drained",
    /// Requeued records are in `parked` of their origin; the transaction is open.
    RequeueMoved = "requeue-moved",
    /// That transaction is committed; nobody was woken.
    RequeueCommitted = "requeue-committed",
    /// An instance without a partition has written its rows; the transaction is open.
    WriterWritten = "writer-written",
    /// Its transaction is committed; nothing was published.
    WriterCommitted = "writer-committed",
    /// The watch of a group begins a round.
    WatchRound = "watch-round",
    /// A dead instance's lane was taken over; nothing was published.
    WriterTookOver = "writer-took-over",
}

impl Failpoint {
    /// The one called `name`.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|point| point.name() == name)
    }
}

/// The variable that [`arm_from_environment`] reads.
pub const VARIABLE: &str = "FAILPOINT";

/// Arms what the variable `FAILPOINT` says: `NAME`, `NAME:HIT` or `NAME:HIT:ACTION`, where `HIT` counts from 1 and
/// `ACTION` is `abort` (the default), `freeze`, or `panic`, which takes down the actor alone. Does nothing where the variable is empty or
/// not set.
///
/// # Errors
/// When the variable cannot be understood.
pub fn arm_from_environment() -> Result<(), String> {
    let Some(text) = std::env::var(VARIABLE).ok().filter(|text| !text.is_empty()) else { return Ok(()) };
    let mut parts = text.split(':');
    let name = parts.next().unwrap_or_default();
    let point = Failpoint::parse(name).ok_or_else(|| format!("there is no failpoint {name:?}"))?;
    let hit: u32 = parts.next().unwrap_or("1").parse().map_err(|_| format!("no hit count in {text:?}"))?;
    let act: fn(&str) = match parts.next().unwrap_or("abort") {
        "abort" => abort,
        "freeze" => freeze,
        "panic" => |name| panic!("failpoint {name}"),
        other => return Err(format!("a failpoint cannot {other:?}: abort, freeze or panic")),
    };
    let hits = Arc::new(AtomicU32::new(0));
    fail::cfg_callback(point.name(), move || {
        if hits.fetch_add(1, Ordering::SeqCst) + 1 == hit {
            act(point.name());
        }
    })
}

fn abort(name: &str) {
    eprintln!("failpoint {name}: aborting");
    std::process::abort();
}

/// As `kill -STOP` does: every thread stops where it is, until somebody sends CONT.
fn freeze(name: &str) {
    eprintln!("failpoint {name}: freezing");
    if let Err(error) = kill_process(getpid(), Signal::STOP) {
        eprintln!("failpoint {name}: cannot freeze: {error}");
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn names_are_distinct() {
        let names: HashSet<_> = Failpoint::ALL.iter().map(|point| point.name()).collect();
        assert_eq!(names.len(), Failpoint::ALL.len());
        assert_eq!(Failpoint::parse("batch-held"), Some(Failpoint::BatchHeld));
        assert_eq!(Failpoint::parse("nothing"), None);
    }
}
