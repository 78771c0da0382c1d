//! What each consumer of a group reads, and in which group of Kafka's.

use dead_letters::requeue_topic;

use crate::{lane::LaneKind, settings::GroupSettings};

/// The topics of one consumer, and the Kafka group whose members share them.
#[derive(Clone, Debug)]
pub(super) struct Subscription {
    /// Kafka's name of the group: the group's own for its sources, `G.requeue` for its requeue topic.
    pub(super) group: String,
    pub(super) topics: Vec<String>,
    /// What the lanes of these topics are.
    pub(super) kind: LaneKind,
}

impl Subscription {
    /// What the handler is for.
    pub(super) fn sources(settings: &GroupSettings) -> Self {
        Self { group: settings.group.clone(), topics: settings.topics.clone(), kind: LaneKind::Source }
    }

    /// What comes back from the dead letters.
    pub(super) fn requeue(settings: &GroupSettings) -> Self {
        let topic = requeue_topic(&settings.group);
        Self { group: topic.clone(), topics: vec![topic], kind: LaneKind::Requeue }
    }
}
