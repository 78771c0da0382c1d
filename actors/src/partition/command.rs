//! Commands to the supervisor of a group's actors.

use std::sync::Arc;

use dead_letters::TopicPartition;
use tokio::sync::oneshot;

use crate::lane::Lane;

/// A command to the supervisor.
#[derive(Debug)]
pub(crate) enum Supervise {
    /// A partition arrived.
    Open(Arc<Lane>),
    /// A partition leaves: its actor finishes the batch in flight. True in the answer when it left nothing behind.
    Drain(TopicPartition, oneshot::Sender<bool>),
    /// A partition is gone: its actor is stopped where it stands.
    Drop(TopicPartition),
    /// Records were put into a partition's `parked`.
    Requeued(TopicPartition),
    /// An operator wants a partition to start over: it was halted, or its lease was changed.
    Resume(TopicPartition),
    /// The delay before a restart is over. Ignored when the partition left or came anew since.
    Restart(TopicPartition, u64),
}
