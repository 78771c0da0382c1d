//! The partition actor, its batch pipeline, its supervisor, and the restart policy.

mod actor;
mod batch;
mod calls;
mod choice;
mod claiming;
mod leaving;
mod letters;
mod log;
mod outcome;
mod pipeline;
mod requeue;
mod restart;
mod size;
mod supervisor;
mod work;

pub(crate) use self::calls::Pace;
pub(crate) use self::supervisor::{Supervise, Supervisor};
