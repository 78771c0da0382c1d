//! The commands that only look.

mod groups;
mod list;
mod metrics;
mod show;
mod topics;

pub use self::{groups::groups, list::list, metrics::metrics, show::show, topics::topics};
