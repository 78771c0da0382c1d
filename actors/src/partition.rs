//! The partition actor, its batch pipeline, its supervisor, and the restart policy.

mod actor;
mod batch;
mod calls;
mod choice;
mod claim;
mod command;
mod drain;
mod fenced;
mod log;
mod pipeline;
mod requeue;
mod restart;
mod shared;
mod size;
mod supervisor;
mod transitions;
mod work;

pub(crate) use self::{calls::Pace, command::Supervise, shared::Shared, supervisor::Supervisor};
