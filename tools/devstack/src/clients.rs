//! The system as others use it: a customer ([`gateway`]), an operator ([`inspector`]), a stranger with a Kafka client ([`topics`]).

pub mod gateway;
pub mod inspector;
pub mod topics;
