//! The commands that look, and the one that leaves a note.

mod groups;
mod list;
mod metrics;
mod morning;
mod note;
mod show;
mod topics;

pub use self::{
    groups::groups, list::list, metrics::metrics, morning::morning, note::note, show::show, topics::topics,
};
