//! What every command that writes has in common: which letters it means, one writer a group, batches, when to stop, and how that is said.

mod gather;
mod pace;
mod session;
mod stop;
mod transaction;
mod voice;
mod words;

pub use self::{
    gather::{Gathered, LeftOut, Which, gather, ledger_is_known},
    pace::Pace,
    session::{End, Session, Target, Work, operator, run},
    stop::Stop,
    transaction::{NotWritten, Put, Record, Writer, append},
    voice::{NAMED, Voice, ages},
    words::{Command, count, named},
};
