//! The audit: whether every offset a group is past has an outcome, without believing a counter.
//!
//! The topics are read again and walked beside the journal, offset by offset (`walk`); what the journal says of a record
//! must be confirmed by a table or a topic that the journal is no part of: the inbox, `parked`, a dead letter, the ledger of
//! what was put back (`lookup`, `read`). It costs a read of everything the groups have read and a look-up of every outcome,
//! in memory that does not grow with them.
//!
//! What runs meanwhile moves. The leases are read first and only what is below them is asked for; tables are asked
//! in the order in which records move through them, and what is missing is asked for again before it is reported.

mod bounds;
mod event;
mod group;
mod journal;
mod kind;
mod lookup;
mod problem;
mod read;
mod report;
mod topics;
mod walk;

pub use self::{
    bounds::Bounds,
    event::{Event, Pointers, ReadEvent},
    group::{Scope, audit},
    kind::Kind,
    problem::Problem,
    read::Cost,
    report::{Audit, GroupAudit},
    topics::{Reach, reach},
};
