//! The consumer of a group: one thread that owns the Kafka consumer, and the lanes it fills.

mod lane;
mod member;
mod poll;
mod rebalance;
mod routing;
mod window;

pub(crate) use self::{
    lane::{Lane, LaneKind},
    poll::{PollThread, start},
    routing::Routing,
    window::Taken,
};
