//! What fails for now waits on the back burner.

mod backoff;
mod bodies;
mod chains;
mod circuit;
mod operator;
mod parked;
mod waiting;

pub(crate) use self::{
    backoff::{delay, patience, spread},
    bodies::{kept_bodies, restore_bodies},
    chains::{ChainKey, Chains},
    circuit::{Circuit, Observation, Sample, Systemic},
    operator::{find, hurry, list},
    parked::{
        NewParked, ParkedRecord, Requeued, Retried, count_crash, delete, fetch, insert, insert_requeued,
        retry,
    },
    waiting::{CameDue, NOTICED, ParkedRef, Wanted, came_due, refs, requeued_waiting, waiting_keys},
};
