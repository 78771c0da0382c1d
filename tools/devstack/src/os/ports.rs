//! Free ports.
//!
//! They are taken from below the range the kernel draws outgoing connections from. From inside it, a client that
//! keeps trying to reach a stopped server could be given the server's own port as its source, connect to itself, and
//! keep the server from coming back.

use std::{
    collections::HashSet,
    net::{Ipv4Addr, TcpListener},
    sync::{Mutex, PoisonError},
};

use anyhow::{Result, bail};
use rand::Rng;

/// Ports this process has handed out: a second stack of it must not be given them before the first one listens.
static TAKEN: Mutex<Option<HashSet<u16>>> = Mutex::new(None);

/// Whether nothing listens on `port`.
pub fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).is_ok()
}

/// A port nothing listens on and this process has not handed out before.
pub fn free() -> Result<u16> {
    let mut taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
    let taken = taken.get_or_insert_default();
    let mut rng = rand::rng();
    for _ in 0..1_000 {
        let port = rng.random_range(18_000..32_000);
        if !taken.contains(&port) && is_free(port) {
            taken.insert(port);
            return Ok(port);
        }
    }
    bail!("no free port between 18000 and 32000")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_is_not_free_and_no_port_is_given_twice() {
        let port = free().expect("a port");
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).expect("it is free");
        assert!(!is_free(port));
        drop(listener);
        assert!(is_free(port));
        let more: HashSet<u16> = (0..50).map(|_| free().expect("a port")).collect();
        assert_eq!(more.len(), 50);
        assert!(!more.contains(&port));
    }
}
