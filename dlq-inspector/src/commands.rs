//! The commands that only look.

mod list;
mod metrics;
mod show;
mod topics;

pub use self::{list::list, metrics::metrics, show::show, topics::topics};
