//! The delivery protocol's promises, each against real Kafka, PostgreSQL and Redis: effects once, order per key, every
//! offset accounted for, whatever dies, moves or is gone.

#![cfg(feature = "failpoints")]

mod blame;
mod bytes;
mod crash;
mod delivery;
mod example;
mod housekeeping;
mod letters;
mod limits;
mod log;
mod operator;
mod outage;
mod outbox;
mod owners;
mod pace;
mod saving;
mod simple;
mod support;
mod systemic;
mod time;
mod unclean;
