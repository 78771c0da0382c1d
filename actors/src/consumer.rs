//! The consumers of a group: threads that own a Kafka consumer each, and the lanes they fill.

mod bell;
mod consumers;
mod feed;
mod health;
mod lane;
mod member;
mod poll;
mod probe;
mod quarantine;
mod rebalance;
mod routing;
mod standing;
mod subscription;
mod unread;
mod wake;
mod window;

pub(crate) use self::{
    consumers::Consumers,
    lane::{Lane, LaneKind, Progress},
    probe::Probe,
    quarantine::CrashedRow,
    unread::Unread,
    window::Taken,
};
