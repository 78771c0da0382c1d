//! How long a peer may take, and how many there may be.

use std::time::Duration;

use rustix::process::{Resource, getrlimit};

/// File descriptors that are left to Kafka, PostgreSQL, Redis and files, however many peers there are.
const RESERVED: usize = 256;
/// Connections of an admin port: for probes, scrapes and a few people.
const ADMIN_CONNECTIONS: usize = 64;

/// What a listener puts up with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Time until the head of the next request is complete, from the opening of the connection or the end of the answer before.
    pub head: Duration,
    /// Time until the body of a request is complete.
    pub body: Duration,
    /// Time in which a peer must take some of the answer that waits for it.
    pub write: Duration,
    /// Connections at a time; further ones wait to be accepted.
    pub connections: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            head: Duration::from_secs(10),
            body: Duration::from_secs(15),
            write: Duration::from_secs(15),
            connections: 4_096,
        }
    }
}

impl Limits {
    /// The same for an admin port.
    pub fn admin(self) -> Self {
        Self { connections: self.connections.min(ADMIN_CONNECTIONS), ..self }
    }

    /// With no more connections than this process has file descriptors for, where each of them costs `descriptors`.
    pub fn within_descriptors(self, descriptors: usize) -> Self {
        let available = getrlimit(Resource::Nofile).current;
        let available = available.map_or(usize::MAX, |n| usize::try_from(n).unwrap_or(usize::MAX));
        Self { connections: self.connections.min(share(available, descriptors)), ..self }
    }
}

/// How many connections fit beside what is reserved; a quarter of them where there is hardly more than that.
fn share(available: usize, descriptors: usize) -> usize {
    let reserved = (RESERVED + ADMIN_CONNECTIONS).min(available - available / 4);
    ((available - reserved) / descriptors.max(1)).max(1)
}

#[cfg(test)]
mod tests;
