//! Redis hints.
//!
//! A hint only lets a record skip its external call; the inbox decides. So Redis may be empty, stale, wrong or
//! gone and the result is the same: every question here is short, nobody waits for what is told, and none of it can fail a batch.

mod health;
mod tell;

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use parking_lot::Mutex;
use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use tokio::sync::mpsc;
use uuid::Uuid;

use self::{
    health::{Health, Side},
    tell::{Done, tell},
};

/// A hint that takes longer costs more than it saves.
const TIMEOUT: Duration = Duration::from_millis(20);
/// Whoever asks how Redis is waits for so long.
const CHECK: Duration = Duration::from_millis(500);
/// A key of nothing.
const PROBE: &str = "done:probe";

/// Redis hints: a fast, optional guess at what the inbox will say. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Hints {
    redis: Option<Arc<Redis>>,
}

struct Redis {
    client: redis::Client,
    /// Made at the first use, and anew where it leads to a server that may not be written to any more.
    manager: Mutex<Option<ConnectionManager>>,
    health: Health,
    /// What is to be told; the one who tells it starts with the first of it.
    told: OnceLock<mpsc::Sender<Done>>,
}

impl std::fmt::Debug for Redis {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The client's own form would show the password of its URL.
        f.write_str("Redis")
    }
}

impl Hints {
    /// No Redis: the inbox alone answers.
    pub fn none() -> Self {
        Self { redis: None }
    }

    /// Hints of the Redis at `url`. Redis need not be reachable, now or later.
    ///
    /// # Errors
    /// Only a malformed URL.
    pub fn connect(url: &str) -> Result<Self, redis::RedisError> {
        let redis = Redis {
            client: redis::Client::open(url)?,
            manager: Mutex::new(None),
            health: Health::default(),
            told: OnceLock::new(),
        };
        Ok(Self { redis: Some(Arc::new(redis)) })
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
        let told = redis.told.get_or_init(|| tell(Arc::downgrade(redis)));
        // A queue that is full is one of hints that are late already.
        told.try_send(Done { group: group.into(), events }).unwrap_or_default();
    }
}

impl Redis {
    async fn connection(&self) -> redis::RedisResult<ConnectionManager> {
        if let Some(manager) = &*self.manager.lock() {
            return Ok(manager.clone());
        }
        let config = ConnectionManagerConfig::new()
            .set_number_of_retries(0)
            .set_connection_timeout(Some(CHECK))
            .set_response_timeout(Some(CHECK));
        let manager = ConnectionManager::new_with_config(self.client.clone(), config).await?;
        Ok(self.manager.lock().get_or_insert(manager).clone())
    }

    /// Takes an answer for what it says of Redis.
    fn judge<T>(
        &self,
        side: Side,
        answer: Result<redis::RedisResult<T>, tokio::time::error::Elapsed>,
    ) -> Option<T> {
        match answer {
            Ok(Ok(value)) => {
                self.health.well(side);
                return Some(value);
            }
            Ok(Err(error)) => self.health.ill(side, self.refused(&error)),
            Err(_) => self.health.ill(side, "no answer in time".to_owned()),
        }
        None
    }

    /// What an error says, in a few words. A server that was demoted, or is not the one for these keys any more, is left: its name
    /// may lead to another by now.
    fn refused(&self, error: &redis::RedisError) -> String {
        let text = health::words(error);
        if ["READONLY", "MOVED", "MASTERDOWN"].iter().any(|code| text.starts_with(code)) {
            *self.manager.lock() = None;
        }
        text
    }
}

fn key(group: &str, event: Uuid) -> String {
    format!("done:{group}:{event}")
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
