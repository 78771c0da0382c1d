//! What time it is, by the database.
//!
//! Times that are written to columns or compared with them are PostgreSQL's own, so that a host whose clock is wrong retries
//! and buries like any other. Between two answers of the database a process goes on from the last one by its monotonic clock.

use std::{sync::Arc, time::Instant};

use chrono::{DateTime, Duration, Utc};
use parking_lot::Mutex;

/// The database's clock as a process last saw it. All clones are one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Clock(Arc<Mutex<Option<Said>>>);

/// What the database said, and when.
type Said = (DateTime<Utc>, Instant);

impl Clock {
    /// The database has just said so.
    pub(crate) fn set(&self, now: DateTime<Utc>) {
        *self.0.lock() = Some((now, Instant::now()));
    }

    /// The time there now. Before the database has said anything, this host's: nothing is compared with it by then.
    pub(crate) fn now(&self) -> DateTime<Utc> {
        let Some((now, at)) = *self.0.lock() else { return Utc::now() };
        let since = Duration::from_std(at.elapsed()).unwrap_or(Duration::MAX);
        now.checked_add_signed(since).unwrap_or(DateTime::<Utc>::MAX_UTC)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_goes_on_from_what_the_database_said() {
        let clock = Clock::default();
        let said = DateTime::from_timestamp(1_000, 0).expect("in range");
        clock.set(said);
        let now = clock.clone().now();
        assert!(now >= said && now < said + Duration::seconds(60), "{now}");
    }
}
