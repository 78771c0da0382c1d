//! Rows written with the effect, published after it.
//!
//! An outbox lane is written by one owner at a time: a partition's, or an [`OutboxWriter`]'s. Its rows are numbered
//! without holes, published in that order straight after their commit without being read back, and deleted as an
//! acknowledged prefix in the owner's next transaction. Whoever takes a lane over reads what is left and publishes it
//! first. A reader may so see a record twice, and never the second before the first.

mod relay;
mod rows;
mod track;
mod writer;

pub(crate) use self::{
    relay::Relay,
    rows::{Row, Span, delete, insert},
    track::Track,
};
pub use self::{
    rows::MAX_RECORD,
    writer::{OutboxWriter, WriteError, Written},
};
