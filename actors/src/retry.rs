//! What fails for now waits on the back burner.

mod backoff;
mod bodies;
mod chains;
mod circuit;
mod operator;
mod parked;

pub(crate) use self::{
    backoff::delay,
    bodies::{kept_bodies, restore_bodies},
    chains::{ChainKey, Chains},
    circuit::{Circuit, Observation, Systemic},
    operator::{give_up, list, retry_now},
    parked::{
        NewParked, ParkedRecord, ParkedRef, Requeued, Retried, add_pause, count_crash, delete, fetch, insert,
        insert_requeued, refs, requeued_lanes, retry,
    },
};
