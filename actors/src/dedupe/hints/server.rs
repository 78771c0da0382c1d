//! The connection to Redis, and what each answer says of it.

use std::time::Duration;

use parking_lot::Mutex;
use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use uuid::Uuid;

use super::health::{Health, Side, words};

/// Whoever asks how Redis is waits for so long.
pub(super) const CHECK: Duration = Duration::from_millis(500);

/// The Redis at a URL, and how it is.
pub(super) struct Redis {
    client: redis::Client,
    /// Made at the first use, and anew where it leads to a server that may not be written to any more.
    manager: Mutex<Option<ConnectionManager>>,
    pub(super) health: Health,
}

impl std::fmt::Debug for Redis {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The client's own form would show the password of its URL.
        f.write_str("Redis")
    }
}

impl Redis {
    /// It need not be reachable, now or later.
    pub(super) fn new(client: redis::Client) -> Self {
        Self { client, manager: Mutex::new(None), health: Health::default() }
    }

    pub(super) async fn connection(&self) -> redis::RedisResult<ConnectionManager> {
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
    pub(super) fn judge<T>(
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
    pub(super) fn refused(&self, error: &redis::RedisError) -> String {
        let text = words(error);
        if ["READONLY", "MOVED", "MASTERDOWN"].iter().any(|code| text.starts_with(code)) {
            *self.manager.lock() = None;
        }
        text
    }
}

/// The key under which an event is noted as done.
pub(super) fn key(group: &str, event: Uuid) -> String {
    format!("done:{group}:{event}")
}
