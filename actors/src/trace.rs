//! Traces: which span follows from which, and who is told of spans.
//!
//! A record belongs to the trace that its header `traceparent` names, and its parent there is the span that sent it. The ids of the
//! spans of a record are functions of what is known of it wherever it is handled, see [`ids`]: a process that takes over from another
//! names the attempts before it by the same ids, and nothing is stored for that. So is the header of what is emitted a function of its
//! cause, whether anybody is told of spans or not.
//!
//! - [`parent`]: the header. [`ids`]: the ids. [`passing`]: the header of what is emitted. [`span`]: what is told. [`recorder`]: whom.

mod ids;
mod parent;
mod passing;
mod recorder;
mod span;

pub(crate) use self::{
    ids::{applied, attempt, death, seen, wait},
    passing::{Sent, sent, written},
};
pub use self::{
    parent::{HEADER, TraceParent},
    recorder::{AlreadyInstalled, Recorder, install, recorder},
    span::{Kind, Span, Value},
};
