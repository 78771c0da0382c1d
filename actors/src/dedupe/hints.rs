//! Redis hints.
//!
//! A hint only lets a record skip its external call; the inbox decides. So Redis may be empty, stale, wrong or
//! gone and the result is the same: every question here is short, nobody waits for what is told, and none of it can fail a batch.

mod health;
mod server;
mod tell;

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use tokio::sync::mpsc;
use uuid::Uuid;

use self::{
    health::Side,
    server::{CHECK, Redis, key},
    tell::{Done, tell},
};

/// A hint that takes longer costs more than it saves.
const TIMEOUT: Duration = Duration::from_millis(20);
/// A key of nothing.
const PROBE: &str = "done:probe";

/// Redis hints: a fast, optional guess at what the inbox will say. Cheap to clone.
///
/// ```
/// use actors::Hints;
///
/// # fn example() -> Result<(), redis::RedisError> {
/// // Redis need not be there; and a group whose handler calls nobody does without.
/// let (hints, none) = (Hints::connect("redis://localhost:6379")?, Hints::none());
/// # Ok(())
/// # }
/// # example().unwrap();
/// assert!(Hints::connect("not a URL").is_err());
/// ```
#[derive(Clone, Debug)]
pub struct Hints {
    redis: Option<Arc<Redis>>,
    /// What is to be told; the one who tells it starts with the first of it.
    told: Arc<OnceLock<mpsc::Sender<Done>>>,
}

impl Hints {
    /// No Redis: the inbox alone answers.
    pub fn none() -> Self {
        Self { redis: None, told: Arc::default() }
    }

    /// Hints of the Redis at `url`. Redis need not be reachable, now or later.
    ///
    /// # Errors
    /// Only a malformed URL.
    pub fn connect(url: &str) -> Result<Self, redis::RedisError> {
        let redis = Redis::new(redis::Client::open(url)?);
        Ok(Self { redis: Some(Arc::new(redis)), told: Arc::default() })
    }

    /// How Redis is, for `/readyz`: that it is gone, or takes nothing, degrades and does not stop. Well when there is none.
    ///
    /// # Errors
    /// What is wrong, in a few words.
    pub async fn check(&self) -> Result<(), String> {
        let Some(redis) = &self.redis else { return Ok(()) };
        let ask = async {
            let mut connection = redis.connection().await?;
            redis::cmd("PING").query_async::<String>(&mut connection).await?;
            // What was refused is tried: nothing may have been asked or told since.
            if redis.health.problem(Side::Reads).is_some() {
                redis::cmd("MGET").arg(PROBE).query_async::<Vec<Option<u8>>>(&mut connection).await?;
                redis.health.well(Side::Reads);
            }
            if redis.health.problem(Side::Writes).is_some() {
                let mut set = redis::cmd("SET");
                set.arg(PROBE).arg(1).arg("EX").arg(1).query_async::<()>(&mut connection).await?;
                redis.health.well(Side::Writes);
            }
            Ok(())
        };
        match tokio::time::timeout(CHECK, ask).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(redis.refused(&error)),
            Err(_) => Err("no answer".to_owned()),
        }
    }

    /// For each event whether Redis believes that `group` has finished it. All false when Redis does not answer in 20 ms.
    pub(crate) async fn seen(&self, group: &str, events: &[Uuid]) -> Vec<bool> {
        let nothing = || vec![false; events.len()];
        let Some(redis) = &self.redis else { return nothing() };
        if events.is_empty() || redis.health.rests(Side::Reads) {
            return nothing();
        }
        let get = async {
            let mut connection = redis.connection().await?;
            let mut command = redis::cmd("MGET");
            for event in events {
                command.arg(key(group, *event));
            }
            command.query_async::<Vec<Option<u8>>>(&mut connection).await
        };
        match redis.judge(Side::Reads, tokio::time::timeout(TIMEOUT, get).await) {
            Some(found) if found.len() == events.len() => found.iter().map(Option::is_some).collect(),
            _ => nothing(),
        }
    }

    /// Has Redis told that `group` has finished these, some time soon or not at all. Only after their commit.
    pub(crate) fn done(&self, group: &str, events: Vec<Uuid>) {
        let Some(redis) = &self.redis else { return };
        if events.is_empty() || redis.health.rests(Side::Writes) {
            return;
        }
        let told = self.told.get_or_init(|| tell(Arc::downgrade(redis)));
        // A queue that is full is one of hints that are late already.
        told.try_send(Done { group: group.into(), events }).unwrap_or_default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_redis_that_is_not_there_answers_nothing_and_is_left_alone() {
        // Port 1 of the loopback refuses.
        let hints = Hints::connect("redis://127.0.0.1:1").expect("a sound URL");
        let event = Uuid::from_u128(1);
        for _ in 0..health::FAILURES {
            assert_eq!(hints.seen("g", &[event]).await, [false]);
        }
        let health = &hints.redis.as_ref().expect("given").health;
        assert!(health.rests(Side::Reads), "three failures in a row");
        assert!(!health.rests(Side::Writes), "which say nothing of writes");
        hints.done("g", vec![event]);
        assert!(hints.check().await.is_err());
        assert_eq!(Hints::none().check().await, Ok(()));
    }
}
