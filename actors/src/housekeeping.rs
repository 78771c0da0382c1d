//! What goes on beside the partitions, now and then: what others have put back or paused, how far lanes are, what is wrong with topics,
//! brokers and the database, what may be forgotten, and one line in the log for whatever does not work.

mod lookout;
mod reporter;
mod retention;
mod snapshots;
mod topics;
mod watch;

pub(crate) use self::{
    lookout::Lookout, reporter::Reporter, retention::Sweeper, topics::Looking, watch::Watch,
};
