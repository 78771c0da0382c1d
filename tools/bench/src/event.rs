//! The records that all ways work through.

use actors::{Cause, Record, Rejection};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use uuid::Uuid;

/// Keys, so that a batch holds most of them once and each comes back.
pub(crate) const KEYS: usize = 10_000;

/// An event of about 300 bytes as JSON.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Event {
    pub(crate) event_id: Uuid,
    pub(crate) key: u32,
    pub(crate) amount: i64,
    pub(crate) fails: Fails,
    pub(crate) occurred_at: String,
    pub(crate) correlation_id: String,
    pub(crate) note: String,
}

/// How its handling goes, in the mix.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub(crate) enum Fails {
    Never,
    Once,
    ForEver,
}

impl Event {
    /// Number `n` of a load.
    pub(crate) fn new(n: usize, fails: Fails) -> Self {
        // Spread, so that neighbours have different keys.
        let key = u32::try_from((n * 7_919) % KEYS).unwrap_or_default();
        Self {
            event_id: Uuid::now_v7(),
            key,
            amount: i64::try_from(n % 1_000).unwrap_or_default() + 1,
            fails,
            occurred_at: "2026-11-24T12:00:00.000000Z".into(),
            correlation_id: Uuid::now_v7().to_string(),
            note: "two large pizzas, no onions, ring the second bell, ".repeat(2),
        }
    }
}

/// Reads a record's body, of any kind of event here.
pub(crate) fn from_json<T: DeserializeOwned>(record: &Record) -> Result<T, Rejection> {
    serde_json::from_slice(record.value.as_deref().unwrap_or_default())
        .map_err(|error| Rejection::Poison(Cause::from_error("not-json", &error)))
}
