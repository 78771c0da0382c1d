//! The consumers of a group: threads that own a Kafka consumer each, and the lanes they fill.

mod assignment;
mod client;
mod deliver;
mod health;
mod pair;
mod poll;
mod probe;
mod rebalance;
mod subscription;
mod unread;

pub(crate) use self::{pair::ConsumerPair, probe::Probe, unread::Unread};
