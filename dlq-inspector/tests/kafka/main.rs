//! The inspector against a real Kafka, which KAFKA_BROKERS names.

mod close;
mod common;
mod groups;
mod looking;
mod requeue;
mod secured;
