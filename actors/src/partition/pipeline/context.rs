//! What a batch runs against, and what it leaves to do.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use dead_letters::TopicPartition;
use parking_lot::Mutex;
use uuid::Uuid;

use crate::{
    Cause,
    handler::Handler,
    lane::Lane,
    lease::Claim,
    outbox::{Rows, Spans, Streams},
    partition::{
        calls::{CallId, Calls},
        shared::Shared,
    },
    retry::{ChainKey, Chains, Circuit, Observation},
};

/// What a committed batch leaves to do.
#[derive(Debug)]
pub(crate) struct Committed {
    /// The lease as it is now.
    pub(crate) claim: Claim,
    /// To be published, in order.
    pub(crate) rows: Rows,
    /// Outbox rows deleted on the way.
    pub(crate) deleted: Spans,
    /// For Redis, as hints.
    pub(crate) done: Vec<Uuid>,
    /// Changes to the lane's chains.
    pub(crate) waiting: Vec<ChainChange>,
    /// What the attempts showed, for the circuit.
    pub(crate) observed: Vec<Observation>,
    /// A server that some event waits for.
    pub(crate) unreachable: Option<Cause>,
    /// Waiting records that were run, and those that there was no time for.
    pub(crate) old: (usize, usize),
    /// Calls that go on, and where their records wait.
    pub(crate) slow: Vec<(CallId, ChainKey, i64)>,
    /// Some external call was answered.
    pub(crate) reached: bool,
    /// Every record was ignored: such a batch can be many times as large.
    pub(crate) all_ignored: bool,
}

/// A change to the lane's chains.
#[derive(Debug)]
pub(crate) enum ChainChange {
    Added(ChainKey, i64, DateTime<Utc>, usize),
    Delayed(ChainKey, i64, DateTime<Utc>),
    Removed(ChainKey, i64),
}

/// What a batch runs against.
pub(crate) struct Context<'a, H: Handler> {
    pub(crate) shared: &'a Arc<Shared<H>>,
    pub(crate) source: &'a TopicPartition,
    pub(crate) outbox: &'a Streams,
    /// Where the records are in flight.
    pub(crate) hand: &'a Lane,
    pub(crate) claim: Claim,
    pub(crate) chains: &'a Chains,
    pub(crate) use_hints: bool,
    pub(crate) circuit: &'a Circuit,
    /// Calls that batches before this one did not wait for.
    pub(crate) calls: &'a Mutex<Calls<H::Prepared>>,
    /// Whose fault a death is has to be known: no call may go on without its record.
    pub(crate) alone: bool,
}
