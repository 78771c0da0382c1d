//! What all actors of a group share.

use std::sync::OnceLock;

use dead_letters::TopicPartition;
use deadpool_postgres::Pool;
use ractor::ActorRef;
use tokio::sync::Semaphore;

use super::{calls::Pace, command::Supervise};
use crate::{
    clock::Clock,
    dedupe::Hints,
    handler::Handler,
    kafka::{LogEnds, Sources},
    outbox::Publisher,
    retry::Sample,
    settings::GroupSettings,
};

/// What all actors of a group share.
pub(crate) struct Shared<H: Handler> {
    pub(crate) settings: GroupSettings,
    pub(crate) handler: H,
    pub(crate) pool: Pool,
    pub(crate) hints: Hints,
    pub(crate) publisher: Publisher,
    /// Bounds the batch transactions in flight.
    pub(crate) transactions: Semaphore,
    /// What time it is in the database.
    pub(crate) clock: Clock,
    /// What the attempts of all lanes showed of late.
    pub(crate) sample: Sample,
    /// How long external calls take.
    pub(crate) pace: Pace,
    /// This member's name in leases.
    pub(crate) owner: String,
    pub(crate) cluster_id: String,
    /// Where logs begin and end.
    pub(crate) log_ends: LogEnds,
    /// What the group reads.
    pub(crate) topics: Sources,
    /// Who starts and stops the actors; set once it runs.
    pub(crate) supervisor: OnceLock<ActorRef<Supervise>>,
}

impl<H: Handler> Shared<H> {
    /// Tells a lane of this process, if it has it, that records were put into its `parked`. Another process's finds out
    /// by itself.
    pub(crate) fn wake_requeued(&self, source: &TopicPartition) {
        if let Some(supervisor) = self.supervisor.get() {
            // A supervisor that is gone has no lanes.
            supervisor.cast(Supervise::Requeued(source.clone())).unwrap_or_default();
        }
    }
}
