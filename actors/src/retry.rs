//! What fails for now waits on the back burner.

mod backoff;
mod chains;
mod parked;

pub(crate) use self::{
    backoff::delay,
    chains::{ChainKey, Chains},
    parked::{
        NewParked, ParkedRecord, Requeued, Retried, count_crash, delete, fetch, insert, insert_requeued,
        list, refs, requeued_lanes, retry,
    },
};
