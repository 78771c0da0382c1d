//! Rows written with the effect, published after it.
//!
//! An outbox lane is written by one owner at a time: a partition's, or an [`OutboxWriter`]'s. Its rows are numbered
//! without holes, published in that order straight after their commit without being read back, and deleted in the owner's
//! next transaction once Kafka has them. What Kafka has acknowledged is remembered for as long as the lane is owned:
//! only what it has not is ever sent again. Whoever takes a lane over reads what is left and publishes it first. A reader
//! may so see a record twice, and never the second before the first.

mod heir;
mod instance;
mod publisher;
mod refusal;
mod relay;
mod rows;
mod shorten;
mod streams;
mod track;
mod writer;

pub use self::{
    publisher::{Publisher, PublisherError},
    rows::MAX_RECORD,
    writer::{OutboxWriter, WriteError, Written},
};
pub(crate) use self::{
    rows::Row,
    streams::{Rows, Spans, Streams, Tracks},
};
