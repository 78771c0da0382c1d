//! What a lane shows to those who look from outside.

use std::{fmt, time::Duration};

use chrono::{DateTime, Utc};
use serde::Serialize;
use uuid::Uuid;

/// The state of a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LaneState {
    /// Assigned; its claim is not answered yet.
    Claiming,
    /// Working, or with nothing to do.
    Running,
    /// A server cannot be reached; the batch in flight is retried with backoff.
    Degraded,
    /// Most keys fail alike: nothing counts, and one probe at a time finds out when it is over.
    Open,
    /// Stopped by an operator, or full: as many records wait as may; `reason` says which.
    Paused,
    /// Its actor died and waits to be restarted.
    Restarting,
    /// Stopped until an operator acts; `reason` says why.
    Halted,
}

impl LaneState {
    /// Every state that keeps a partition from its work.
    pub(crate) const TROUBLE: [Self; 5] =
        [Self::Degraded, Self::Open, Self::Paused, Self::Restarting, Self::Halted];

    /// The state's name where it keeps a partition from its work.
    pub(crate) fn trouble(self) -> Option<&'static str> {
        match self {
            Self::Claiming | Self::Running => None,
            Self::Degraded => Some("degraded"),
            Self::Open => Some("open"),
            Self::Paused => Some("paused"),
            Self::Restarting => Some("restarting"),
            Self::Halted => Some("halted"),
        }
    }

    /// How far from its work a partition is: 0 while it works, and more the longer it will take without anybody's help. A contract with
    /// dashboards: numbers are added, never changed.
    pub(crate) fn level(self) -> u8 {
        match self {
            Self::Running => 0,
            Self::Claiming => 1,
            Self::Paused => 2,
            Self::Restarting => 3,
            Self::Open => 4,
            Self::Degraded => 5,
            Self::Halted => 6,
        }
    }
}

/// One partition as `/partitions` shows it.
#[derive(Clone, Debug, Serialize)]
pub struct PartitionStatus {
    /// Source topic.
    pub topic: String,
    /// Partition number.
    pub partition: i32,
    /// What it is doing.
    pub state: LaneState,
    /// Since when it is in this state, for this reason.
    pub since: DateTime<Utc>,
    /// Why it is degraded or halted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The claim's epoch; 0 before the first claim.
    pub epoch: i64,
    /// Next offset to finish, as committed to PostgreSQL.
    pub next_offset: i64,
    /// Offsets from there to the log's end, as far as is known.
    pub lag: i64,
    /// Records delivered and not finished.
    pub window: usize,
    /// The lane has been full for 5 s, and its partition is paused until there is room.
    pub backpressured: bool,
    /// Records in the batch in flight, parked ones included.
    pub in_flight: usize,
    /// Records waiting in `parked`.
    pub parked: usize,
    /// Outbox rows not yet acknowledged by Kafka.
    pub outbox: usize,
    /// Age of the oldest unfinished record of the window, in milliseconds since it was written.
    pub oldest_ms: u64,
    /// Times its actor was restarted since it was assigned.
    pub restarts: u32,
}

/// One waiting record as `/parked` shows it.
#[derive(Clone, Debug, Serialize)]
pub struct ParkedStatus {
    /// Names it; rises with the order in which records were parked.
    pub id: i64,
    /// Origin topic.
    pub topic: String,
    /// Origin partition.
    pub partition: i32,
    /// Origin offset.
    pub offset: i64,
    /// The key, as text where it is text.
    pub key: Option<String>,
    /// The event, where it could be decoded.
    pub event_id: Option<Uuid>,
    /// Failed attempts so far; 0 for one that waits behind its key.
    pub attempts: u32,
    /// When it runs next, if it is at the head of its key.
    pub due_at: DateTime<Utc>,
    /// The last failure, or what it waits for.
    pub error: String,
}

/// Which waiting record is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WhichParked {
    /// The one that runs first of those with this key.
    Key(String),
    /// The one with this id, for records whose key is no text or that have none.
    Id(i64),
}

impl fmt::Display for WhichParked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key(key) => write!(f, "key {key:?}"),
            Self::Id(id) => write!(f, "id {id}"),
        }
    }
}

/// How much an outbox holds that Kafka has not acknowledged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backlog {
    /// Rows.
    pub rows: usize,
    /// Age of the oldest.
    pub oldest: Duration,
}
