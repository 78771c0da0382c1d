//! Has this event been seen? The inbox in PostgreSQL knows; Redis guesses, fast.

mod hints;
mod inbox;

pub use self::hints::Hints;
pub(crate) use self::inbox::{InboxRow, Known, finish, known, payload_hash, register};
