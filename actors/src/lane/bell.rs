//! Wakes the poll thread.

use std::time::Duration;

use parking_lot::{Condvar, Mutex};

/// Rung when Kafka has delivered something and when a lane has room again; heard once, however often it was rung.
#[derive(Debug, Default)]
pub(crate) struct Bell {
    rung: Mutex<bool>,
    heard: Condvar,
}

impl Bell {
    /// Wakes who waits, or who waits next.
    pub(crate) fn ring(&self) {
        *self.rung.lock() = true;
        self.heard.notify_one();
    }

    /// Waits until it is rung, at most for `limit`.
    pub(crate) fn wait(&self, limit: Duration) {
        let mut rung = self.rung.lock();
        if !*rung {
            self.heard.wait_for(&mut rung, limit);
        }
        *rung = false;
    }
}
