//! The commands that look, and the one that leaves a note.

mod groups;
mod list;
mod metrics;
mod note;
mod show;
mod topics;

pub use self::{groups::groups, list::list, metrics::metrics, note::note, show::show, topics::topics};
