//! What a dead letter is: its identity, its class, its topics.

use std::fmt;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::place::{Offset, TopicPartition};

/// Topic of the ledger that the inspector and every group write, keyed by dead-letter id.
pub const ACTIONS_TOPIC: &str = "dlq.actions";

/// Largest message, in bytes, that dead-letter and requeue topics are made for: a record of the largest size that is read, which
/// its source took compressed, and its `dlq.*` headers.
pub const LETTER_MAX: usize = 20 << 20;

/// Longest error text kept in a header, in bytes.
pub const MAX_ERROR: usize = 2 * 1024;

/// The namespace of dead-letter ids.
const NAMESPACE: Uuid = Uuid::from_u128(0x6d0c_9a2e_51f3_4b7a_9d7e_0b5c_ee1f_4a68);

/// The topic where `group`'s dead letters go.
pub fn dlq_topic(group: &str) -> String {
    format!("{group}.dlq")
}

/// The topic that puts records back into `group`, and into no other group.
pub fn requeue_topic(group: &str) -> String {
    format!("{group}.requeue")
}

/// The group whose dead letters `topic` holds.
pub fn group_of(topic: &str) -> Option<&str> {
    topic.strip_suffix(".dlq").filter(|group| !group.is_empty())
}

/// The id of a death: the same record dying in the same group and generation has the same id, so that a crash that
/// publishes a dead letter twice makes twins, not two. The record's timestamp tells it from another one at the same place of
/// a topic that was made anew.
pub fn letter_id(
    origin: &TopicPartition,
    offset: Offset,
    timestamp_ms: i64,
    group: &str,
    generation: u32,
) -> Uuid {
    let TopicPartition { topic, partition } = origin;
    let name = format!("{topic}/{partition}/{offset}@{timestamp_ms}/{group}/{generation}");
    Uuid::new_v5(&NAMESPACE, name.as_bytes())
}

/// Why a record died.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Class {
    /// It could not be decoded.
    Poison,
    /// It can never succeed as it is.
    Permanent,
    /// Its attempts or its time ran out.
    Exhausted,
    /// It killed as many actors as one record may.
    Crash,
}

impl Class {
    /// All classes, in the order they are listed.
    pub const ALL: [Self; 4] = [Self::Poison, Self::Permanent, Self::Exhausted, Self::Crash];

    /// The word in headers and on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Poison => "poison",
            Self::Permanent => "permanent",
            Self::Exhausted => "exhausted",
            Self::Crash => "crash",
        }
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl std::str::FromStr for Class {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|class| class.as_str() == word)
            .ok_or_else(|| format!("no class {word:?}: poison, permanent, exhausted or crash"))
    }
}
