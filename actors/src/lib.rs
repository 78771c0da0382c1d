//! Supervised actors, one per Kafka partition, with effects exactly once.
//!
//! A service implements [`Handler`] or [`SimpleHandler`] and starts a [`Group`]; the rest is done here. Two threads per group poll Kafka, one for the
//! source topics and one for the requeue topic, which is a Kafka group of its own, and route records into *lanes*, one per
//! partition (`consumer`). Each lane has a *partition actor* that takes batches
//! through the pipeline (`partition`): decode, skip what Redis has seen, call the handler, and commit its effects, the
//! inbox, the outbox, what failed and the next offset in one PostgreSQL transaction. A supervisor restarts actors that
//! die. What fails for now waits in `parked` with its key's followers (`retry`); what fails for ever becomes a
//! [dead letter](dead_letters); what was emitted is published in order by the outbox relay.
//!
//! Three things are promised: effects happen exactly once, records of one key take effect in order even while one of
//! them is retried, and every offset has an outcome that can be accounted for (`lease`).

#[macro_use]
mod macros;

mod breaker;
mod clock;
mod condition;
mod consumer;
mod dedupe;
mod detach;
mod event;
mod failure;
mod group;
mod handler;
mod housekeeping;
mod kafka;
mod lane;
mod lease;
mod observed;
mod one_by_one;
mod outbox;
mod panics;
mod partition;
mod record;
mod retry;
mod schema;
mod settings;
mod simple;
mod sql;
mod status;

pub mod connection;
#[cfg(feature = "failpoints")]
pub mod failpoint;
pub mod metrics;
pub mod trace;

pub use dead_letters::{
    self, Class, Headers, KafkaSettings, MalformedHeaders, NextOffset, Offset, PropertyError, TopicPartition,
};

pub use self::{
    breaker::{Breaker, Call},
    condition::Condition,
    dedupe::Hints,
    event::{Attempt, Change, Death, Decision, Decoded, Emit, Event},
    failure::{Cause, Failure, MAX_MESSAGE, Rejection},
    group::{Consent, Deps, Group, OperateError, ResetTo, StartError},
    handler::{Handler, LoadResult, Loaded, Lock, SaveError, SaveResult},
    kafka::{TopicSpec, ensure_topics, group_topics},
    lease::{accounts, caught_up, journal},
    one_by_one::HandleError,
    outbox::{MAX_RECORD, OutboxWriter, Publisher, PublisherError, WriteError, Written},
    record::Record,
    schema::{HISTORY, migrations},
    settings::{CircuitSettings, GroupSettings, RestartSettings, RetentionSettings, RetryPolicy},
    simple::{Simple, SimpleHandler},
    status::{Backlog, LaneState, ParkedStatus, PartitionStatus, WhichParked},
};
