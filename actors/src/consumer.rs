//! The consumers of a group: threads that own a Kafka consumer each, and the lanes they fill.

mod bell;
mod consumers;
mod feed;
mod lane;
mod member;
mod poll;
mod rebalance;
mod routing;
mod subscription;
mod wake;
mod window;

pub(crate) use self::{
    consumers::Consumers,
    lane::{Lane, LaneKind},
    window::Taken,
};
