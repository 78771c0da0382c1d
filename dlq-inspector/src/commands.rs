//! The commands that only look.

mod list;
mod show;
mod topics;

pub use self::{list::list, show::show, topics::topics};
