//! Who keeps dead rows of the database from being removed.
//!
//! Every batch updates its lease, and PostgreSQL keeps each version for as long as an old snapshot might see it: a transaction
//! that somebody left open, one that was prepared and never ended, a replication slot whose reader is gone. Everything that
//! looks such rows up grows slower with every minute of it.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use deadpool_postgres::Client;
use tokio_postgres::Error;

use crate::condition::{Conditions, Raised, Subject};

/// A slot that nobody has moved holds nothing up while there are fewer transactions than this.
const SLOT_AGE: i32 = 1_000;
const CODE: &str = "old-snapshot";

/// What was seen at the last look: the horizon of each holder, and since when.
#[derive(Debug, Default)]
pub(crate) struct Snapshots {
    seen: HashMap<String, (String, Instant)>,
    raised: Raised,
}

impl Snapshots {
    /// Looks, and raises the condition where something has held on for longer than `most`, or clears it. Returns the age of what has held on for longest.
    pub(crate) async fn look(
        &mut self,
        client: &Client,
        conditions: &Conditions,
        most: Duration,
    ) -> Result<Duration, Error> {
        // Of others' sessions a plain user sees the horizon, and not since when: then it is measured here.
        const HOLDERS: &str = "SELECT name, horizon::text, open_s FROM (
                SELECT 'process ' || pid || ' (' || coalesce(nullif(application_name, ''), 'of no name') || ')' AS name,
                       coalesce(backend_xmin, backend_xid) AS horizon,
                       extract(epoch FROM clock_timestamp() - xact_start)::float8 AS open_s
                FROM pg_stat_activity
                WHERE coalesce(backend_xmin, backend_xid) IS NOT NULL AND pid <> pg_backend_pid()
                  AND (datname = current_database() OR backend_type = 'walsender')
                  AND coalesce(backend_type, '') <> 'autovacuum worker'
                UNION ALL
                SELECT 'prepared transaction ' || gid, transaction,
                       extract(epoch FROM clock_timestamp() - prepared)::float8
                FROM pg_prepared_xacts WHERE database = current_database()
                UNION ALL
                SELECT 'replication slot ' || slot_name, xmin, NULL
                FROM pg_replication_slots WHERE age(xmin) >= $1
             ) AS holder ORDER BY age(horizon) DESC LIMIT 50";
        let statement = client.prepare_cached(HOLDERS).await?;
        let rows = client.query(&statement, &[&SLOT_AGE]).await?;
        let holders =
            rows.iter().map(|row| Holder { name: row.get(0), horizon: row.get(1), open_s: row.get(2) });
        let oldest = self.oldest(Instant::now(), holders);
        let found = oldest.as_ref().filter(|(_, age)| *age >= most).map(|(name, age)| {
            let name: String = name.chars().take(200).collect();
            let message = format!(
                "{name} has kept dead rows of the database from being removed for {} s: end it (pg_terminate_backend, \
                 ROLLBACK PREPARED, pg_drop_replication_slot), everything grows slower while it lasts",
                age.as_secs()
            );
            ((Subject::Process, CODE), message)
        });
        self.raised.say(conditions, found.into_iter().collect());
        Ok(oldest.map(|(_, age)| age).unwrap_or_default())
    }

    fn oldest(&mut self, now: Instant, holders: impl Iterator<Item = Holder>) -> Option<(String, Duration)> {
        let mut seen = HashMap::new();
        let mut oldest: Option<(String, Duration)> = None;
        for Holder { name, horizon, open_s } in holders {
            let since = match self.seen.get(&name) {
                Some((known, since)) if *known == horizon => *since,
                _ => now,
            };
            let open = open_s.and_then(|open_s| Duration::try_from_secs_f64(open_s).ok());
            let age = open.unwrap_or_else(|| now.duration_since(since));
            seen.insert(name.clone(), (horizon, since));
            if oldest.as_ref().is_none_or(|(_, oldest)| age > *oldest) {
                oldest = Some((name, age));
            }
        }
        self.seen = seen;
        oldest
    }
}

/// One who holds on to old rows.
struct Holder {
    name: String,
    horizon: String,
    /// Since when, where that may be seen.
    open_s: Option<f64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_say_since_when_is_measured_until_it_moves() {
        let (mut snapshots, start) = (Snapshots::default(), Instant::now());
        let look = |snapshots: &mut Snapshots, second, horizon: &str, open_s| {
            let found = [Holder { name: "process 7 (psql)".into(), horizon: horizon.into(), open_s }];
            let oldest = snapshots.oldest(start + Duration::from_secs(second), found.into_iter());
            oldest.map(|(_, age)| age.as_secs())
        };
        assert_eq!(look(&mut snapshots, 0, "100", None), Some(0));
        assert_eq!(look(&mut snapshots, 70, "100", None), Some(70));
        assert_eq!(look(&mut snapshots, 80, "200", None), Some(0), "it has moved");
        assert_eq!(look(&mut snapshots, 90, "200", Some(65.5)), Some(65));
        assert_eq!(snapshots.oldest(start, std::iter::empty()), None);
    }
}
