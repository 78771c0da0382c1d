//! The system as others use it: a customer ([`gateway`]), an operator ([`inspector`]), a probe ([`admin`]), a stranger with a
//! Kafka client ([`topics`]).

pub mod admin;
pub mod gateway;
pub mod inspector;
pub mod topics;
