//! Kafka, as everything here uses it: settings of a client, clients that only ask, topics, where logs begin and end.

pub(crate) mod brokers;
mod client;
mod log_ends;
mod renewed;
mod topics;

pub use self::topics::{TopicSpec, ensure_topics, group_topics};
pub(crate) use self::{
    client::MetadataClient,
    log_ends::{LogEnds, Watermarks},
    renewed::Renewed,
    topics::{REQUEST, Sources, cluster_id},
};
