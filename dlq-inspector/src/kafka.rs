//! Kafka clients: how they are configured, and which topics there are.

mod cluster;
mod connection;
mod gap;
mod reader;

pub use self::{
    cluster::Kafka,
    connection::Connection,
    gap::Gap,
    reader::{Raw, Reader, Start},
};
