//! Redis hints.
//!
//! A hint only lets a record skip its external call; the inbox decides. So Redis may be empty, stale, wrong or
//! gone and the result is the same: every call here is short, and none of them can fail the batch.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use tokio::sync::OnceCell;
use uuid::Uuid;

/// A hint that takes longer costs more than it saves.
const TIMEOUT: Duration = Duration::from_millis(20);
/// Failures in a row after which Redis is left alone for [`REST`].
const FAILURES: u32 = 3;
const REST: Duration = Duration::from_secs(1);
/// A redelivery comes soon or never: hints live an hour.
const LIFETIME_SECONDS: u64 = 60 * 60;

/// Redis hints: a fast, optional guess at what the inbox will say. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Hints {
    redis: Option<Arc<Redis>>,
}

struct Redis {
    client: redis::Client,
    /// Made at the first use: Redis need not be there when a service starts.
    manager: OnceCell<ConnectionManager>,
    failures: AtomicU32,
    /// Milliseconds since `born` until which Redis is left alone.
    rest_until_ms: AtomicU64,
    born: Instant,
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
            manager: OnceCell::new(),
            failures: AtomicU32::new(0),
            rest_until_ms: AtomicU64::new(0),
            born: Instant::now(),
        };
        Ok(Self { redis: Some(Arc::new(redis)) })
    }

    /// Whether Redis answers, for `/readyz`: Redis being gone degrades, it does not stop. True when there is none.
    pub async fn reachable(&self) -> bool {
        let Some(redis) = &self.redis else { return true };
        let ping = async {
            let mut connection = redis.connection().await?;
            redis::cmd("PING").query_async::<String>(&mut connection).await
        };
        matches!(tokio::time::timeout(Duration::from_millis(500), ping).await, Ok(Ok(_)))
    }

    /// For each event whether Redis believes that `group` has finished it. All false when Redis does not answer in 20 ms.
    pub(crate) async fn seen(&self, group: &str, events: &[Uuid]) -> Vec<bool> {
        let nothing = || vec![false; events.len()];
        let Some(redis) = self.redis.as_ref().filter(|redis| !events.is_empty() && redis.awake()) else {
            return nothing();
        };
        let get = async {
            let mut connection = redis.connection().await?;
            let mut command = redis::cmd("MGET");
            for event in events {
                command.arg(key(group, *event));
            }
            command.query_async::<Vec<Option<u8>>>(&mut connection).await
        };
        match redis.judge(tokio::time::timeout(TIMEOUT, get).await) {
            Some(found) if found.len() == events.len() => found.iter().map(Option::is_some).collect(),
            _ => nothing(),
        }
    }

    /// Tells Redis that `group` has finished these. Only after their commit.
    pub(crate) async fn done(&self, group: &str, events: &[Uuid]) {
        let Some(redis) = self.redis.as_ref().filter(|redis| !events.is_empty() && redis.awake()) else {
            return;
        };
        let set = async {
            let mut connection = redis.connection().await?;
            let mut pipeline = redis::pipe();
            for event in events {
                pipeline.cmd("SET").arg(key(group, *event)).arg(1).arg("EX").arg(LIFETIME_SECONDS).ignore();
            }
            pipeline.query_async::<()>(&mut connection).await
        };
        redis.judge(tokio::time::timeout(TIMEOUT * 5, set).await);
    }
}

impl Redis {
    async fn connection(&self) -> redis::RedisResult<ConnectionManager> {
        let manager = self.manager.get_or_try_init(|| {
            let config = ConnectionManagerConfig::new()
                .set_number_of_retries(0)
                .set_connection_timeout(Some(Duration::from_millis(500)))
                .set_response_timeout(Some(Duration::from_millis(500)));
            ConnectionManager::new_with_config(self.client.clone(), config)
        });
        manager.await.cloned()
    }

    fn awake(&self) -> bool {
        self.elapsed_ms() >= self.rest_until_ms.load(Ordering::Relaxed)
    }

    fn elapsed_ms(&self) -> u64 {
        u64::try_from(self.born.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Counts failures in a row and rests after the third: an outage costs one time-out a second, not one a batch.
    fn judge<T>(&self, answer: Result<redis::RedisResult<T>, tokio::time::error::Elapsed>) -> Option<T> {
        let problem = match answer {
            Ok(Ok(value)) => {
                if self.failures.swap(0, Ordering::Relaxed) >= FAILURES {
                    tracing::info!("Redis answers again");
                }
                return Some(value);
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => "no answer in time".to_owned(),
        };
        let failures = self.failures.fetch_add(1, Ordering::Relaxed) + 1;
        if failures >= FAILURES {
            let rest = u64::try_from(REST.as_millis()).unwrap_or(u64::MAX);
            self.rest_until_ms.store(self.elapsed_ms().saturating_add(rest), Ordering::Relaxed);
        }
        if failures == FAILURES {
            tracing::warn!(problem, "Redis is left alone for now; the inbox answers for it");
        }
        None
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
        for _ in 0..FAILURES {
            assert_eq!(hints.seen("g", &[event]).await, [false]);
        }
        assert!(!hints.redis.as_ref().expect("given").awake(), "three failures open the circuit");
        hints.done("g", &[event]).await;
        assert!(!hints.reachable().await);
        assert!(Hints::none().reachable().await);
    }
}
