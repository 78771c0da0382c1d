//! What Kafka, or its client, will not take, and when it is tried again.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use chrono::{DateTime, Utc};
use rdkafka::{error::KafkaError, types::RDKafkaErrorCode};

use crate::Cause;

/// A refused row is tried again after this, and after twice as long each time.
const FIRST: Duration = Duration::from_secs(1);
/// No wait is longer: what an operator has mended is to be seen soon.
const LONGEST: Duration = Duration::from_secs(10);

/// Whose fault a refusal is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The record is larger than its topic, or the client, takes.
    Size,
    /// This record, and not its topic.
    Record,
    /// The topic takes nothing: it is missing, or closed to us.
    Topic,
}

/// A record was not taken.
#[derive(Clone, Debug)]
pub(crate) struct Refused {
    pub(crate) fault: Fault,
    pub(crate) cause: Cause,
}

impl Refused {
    pub(crate) fn new(code: &'static str, error: &KafkaError) -> Self {
        let fault = match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::MessageSizeTooLarge) => Fault::Size,
            Some(RDKafkaErrorCode::InvalidRecord | RDKafkaErrorCode::InvalidMessage) => Fault::Record,
            _ => Fault::Topic,
        };
        Self { fault, cause: Cause::from_error(code, error) }
    }
}

/// A row that is refused, for as long as it is.
#[derive(Clone, Debug)]
pub(crate) struct Refusal {
    pub(crate) seq: i64,
    pub(crate) topic: Arc<str>,
    pub(crate) refused: Refused,
    /// The rows behind it to the same topic wait as well: their order is promised, or would not help them.
    pub(crate) holds_topic: bool,
    /// Since when, for people.
    pub(crate) since: DateTime<Utc>,
    pub(crate) tries: u32,
    pub(crate) not_before: Instant,
}

impl Refusal {
    pub(crate) fn new(seq: i64, topic: Arc<str>, refused: Refused, holds_topic: bool, now: Instant) -> Self {
        let since = Utc::now();
        Self { seq, topic, refused, holds_topic, since, tries: 1, not_before: now + FIRST }
    }

    /// It was refused once more.
    pub(crate) fn again(&mut self, refused: Refused, now: Instant) {
        self.refused = refused;
        self.not_before = now + FIRST.saturating_mul(1 << self.tries.min(8)).min(LONGEST);
        self.tries = self.tries.saturating_add(1);
    }

    /// What an operator is told: which row, which topic, why.
    pub(crate) fn cause(&self, lane: &str, waiting: usize) -> Cause {
        let advice = match self.refused.fault {
            Fault::Size => "raise the topic's max.message.bytes",
            Fault::Record => "look at the topic's settings, such as cleanup.policy",
            Fault::Topic => "see whether the topic is there and this service may write it",
        };
        Cause::new(
            "outbox-refused",
            format!(
                "Kafka refuses row {} of outbox {lane}, for topic {}: {}; {waiting} rows wait, and it is tried every {} s: {advice}",
                self.seq,
                self.topic,
                self.refused.cause,
                LONGEST.as_secs(),
            ),
        )
    }
}
