//! A dead letter's headers, written and read.

use chrono::{DateTime, SecondsFormat, Utc};
use thiserror::Error;
use uuid::Uuid;

use crate::{
    headers::Headers,
    letter::{Class, MAX_ERROR, letter_id},
    place::{Offset, TopicPartition},
};

/// The length of a value of which only the beginning was kept.
pub(crate) const TRUNCATED: &str = "dlq.truncated";
/// What the whole of it hashes to.
pub(crate) const SHA256: &str = "dlq.sha256";

/// The headers that a letter has of us: what an earlier death left of them is replaced.
const OURS: [&str; 22] = [
    "dlq.id",
    "dlq.group",
    "dlq.handler",
    "dlq.class",
    "dlq.topic",
    "dlq.partition",
    "dlq.offset",
    "dlq.timestamp",
    "dlq.event-id",
    "dlq.event-type",
    "dlq.correlation-id",
    "dlq.error-code",
    "dlq.error",
    "dlq.fingerprint",
    "dlq.attempts",
    "dlq.first-failed-at",
    "dlq.failed-at",
    "dlq.generation",
    "dlq.service",
    "dlq.build",
    TRUNCATED,
    SHA256,
];

/// Longest word taken over from a record, in bytes: a letter must stay within what its topic allows.
const MAX_WORD: usize = 256;

/// What the `dlq.*` headers say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// `dlq.id`: see [`letter_id`](super::letter_id). On a requeued record: the letter it was put back from.
    pub id: Uuid,
    /// `dlq.group`: the consumer group it died in.
    pub group: String,
    /// `dlq.handler`: the handler's name.
    pub handler: String,
    /// `dlq.class`.
    pub class: Class,
    /// `dlq.topic`, `dlq.partition`: where the record was first read, also after requeues.
    pub origin: TopicPartition,
    /// `dlq.offset`: its offset there.
    pub offset: Offset,
    /// `dlq.timestamp`: the origin record's timestamp, milliseconds since the Unix epoch.
    pub timestamp_ms: i64,
    /// `dlq.event-id`: absent when it could not be decoded.
    pub event_id: Option<Uuid>,
    /// `dlq.event-type`: absent when it could not be decoded.
    pub event_type: Option<String>,
    /// `dlq.correlation-id`: absent when neither body nor headers named one.
    pub correlation_id: Option<String>,
    /// `dlq.error-code`: stable, kebab-case.
    pub error_code: String,
    /// `dlq.error`: the error with its chain, at most 2 KiB.
    pub error: String,
    /// `dlq.fingerprint`: the same for failures alike.
    pub fingerprint: String,
    /// `dlq.attempts`: how often it was tried in this generation.
    pub attempts: u32,
    /// `dlq.first-failed-at`.
    pub first_failed_at: DateTime<Utc>,
    /// `dlq.failed-at`.
    pub failed_at: DateTime<Utc>,
    /// `dlq.generation`: 1 for the first death. On a requeued record: the generation it is to run as.
    pub generation: u32,
    /// `dlq.service`: the process's service name.
    pub service: String,
    /// `dlq.build`: version of the service that gave up.
    pub build: String,
    /// Set where the letter holds only the beginning of the record's value.
    pub truncated: Option<Truncated>,
}

/// What a value was of which only the beginning was kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Truncated {
    /// `dlq.truncated`: its length, in bytes.
    pub bytes: u64,
    /// `dlq.sha256`: what it hashes to, in lower-case hex.
    pub sha256: String,
}

impl Truncated {
    /// As the headers say; `None` where they do not.
    pub fn from_headers(headers: &Headers) -> Option<Self> {
        let bytes = headers.text(TRUNCATED)?.parse().ok()?;
        Some(Self { bytes, sha256: headers.text(SHA256).unwrap_or_default().to_owned() })
    }
}

/// The record's own headers: those that no death has left.
pub fn own_headers(headers: &Headers) -> Headers {
    headers.iter().filter(|(name, _)| !OURS.iter().any(|ours| ours.as_bytes() == *name)).collect()
}

/// A record in a dead-letter or requeue topic lacks a header or has one that does not parse.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("header {name} is {problem}")]
pub struct BadDeadLetter {
    /// The header.
    pub name: &'static str,
    /// `missing`, or why it does not parse.
    pub problem: String,
}

impl DeadLetter {
    /// The id that the same record's letter of another generation has.
    pub fn id_in(&self, generation: u32) -> Uuid {
        letter_id(&self.origin, self.offset, self.timestamp_ms, &self.group, generation)
    }

    /// The record's own headers with this letter's after them. What an earlier death left is replaced.
    pub fn to_headers(&self, original: &Headers) -> Headers {
        let mut headers = own_headers(original);
        let mut put = |name: &str, value: &str| headers.push(name, Some(value.as_bytes()));
        put("dlq.id", &self.id.to_string());
        put("dlq.group", &self.group);
        put("dlq.handler", &self.handler);
        put("dlq.class", self.class.as_str());
        put("dlq.topic", &self.origin.topic);
        put("dlq.partition", &self.origin.partition.to_string());
        put("dlq.offset", &self.offset.to_string());
        put("dlq.timestamp", &self.timestamp_ms.to_string());
        if let Some(id) = self.event_id {
            put("dlq.event-id", &id.to_string());
        }
        if let Some(event_type) = &self.event_type {
            put("dlq.event-type", cut(event_type, MAX_WORD));
        }
        if let Some(correlation_id) = &self.correlation_id {
            put("dlq.correlation-id", cut(correlation_id, MAX_WORD));
        }
        put("dlq.error-code", cut(&self.error_code, MAX_WORD));
        put("dlq.error", cut(&self.error, MAX_ERROR));
        put("dlq.fingerprint", &self.fingerprint);
        put("dlq.attempts", &self.attempts.to_string());
        put("dlq.first-failed-at", &rfc3339(self.first_failed_at));
        put("dlq.failed-at", &rfc3339(self.failed_at));
        put("dlq.generation", &self.generation.to_string());
        put("dlq.service", &self.service);
        put("dlq.build", &self.build);
        if let Some(truncated) = &self.truncated {
            put(TRUNCATED, &truncated.bytes.to_string());
            put(SHA256, &truncated.sha256);
        }
        headers
    }

    /// Reads a letter's headers.
    pub fn from_headers(headers: &Headers) -> Result<Self, BadDeadLetter> {
        Ok(Self {
            id: parsed(headers, "dlq.id")?,
            group: text(headers, "dlq.group")?.to_owned(),
            handler: text(headers, "dlq.handler")?.to_owned(),
            class: parsed(headers, "dlq.class")?,
            origin: TopicPartition::new(text(headers, "dlq.topic")?, parsed(headers, "dlq.partition")?),
            offset: Offset(parsed(headers, "dlq.offset")?),
            timestamp_ms: parsed(headers, "dlq.timestamp")?,
            event_id: headers.text("dlq.event-id").map(|_| parsed(headers, "dlq.event-id")).transpose()?,
            event_type: headers.text("dlq.event-type").map(str::to_owned),
            correlation_id: headers.text("dlq.correlation-id").map(str::to_owned),
            error_code: text(headers, "dlq.error-code")?.to_owned(),
            error: text(headers, "dlq.error")?.to_owned(),
            fingerprint: text(headers, "dlq.fingerprint")?.to_owned(),
            attempts: parsed(headers, "dlq.attempts")?,
            first_failed_at: parsed(headers, "dlq.first-failed-at")?,
            failed_at: parsed(headers, "dlq.failed-at")?,
            generation: parsed(headers, "dlq.generation")?,
            service: text(headers, "dlq.service")?.to_owned(),
            build: text(headers, "dlq.build")?.to_owned(),
            truncated: Truncated::from_headers(headers),
        })
    }
}

fn text<'a>(headers: &'a Headers, name: &'static str) -> Result<&'a str, BadDeadLetter> {
    let value = headers.last(name).ok_or_else(|| BadDeadLetter { name, problem: "missing".into() })?;
    std::str::from_utf8(value).map_err(|error| BadDeadLetter { name, problem: error.to_string() })
}

fn parsed<T: std::str::FromStr<Err: std::fmt::Display>>(
    headers: &Headers,
    name: &'static str,
) -> Result<T, BadDeadLetter> {
    let value = text(headers, name)?;
    // Whatever stands there is not repeated: it may be anything, and long.
    value.parse().map_err(|error: T::Err| BadDeadLetter { name, problem: error.to_string() })
}

fn rfc3339(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Millis, true)
}

fn cut(text: &str, limit: usize) -> &str {
    let mut end = text.len().min(limit);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letter() -> DeadLetter {
        let origin = TopicPartition::new("orders", 3);
        let at = DateTime::from_timestamp_millis(1_790_000_000_123).expect("in range");
        DeadLetter {
            id: letter_id(&origin, Offset(42), 1_789_999_999_000, "payments-service", 1),
            group: "payments-service".into(),
            handler: "payments".into(),
            class: Class::Permanent,
            origin,
            offset: Offset(42),
            timestamp_ms: 1_789_999_999_000,
            event_id: Some(Uuid::from_u128(7)),
            event_type: Some("ORDER_CREATED".into()),
            correlation_id: None,
            error_code: "amount-over-limit".into(),
            error: "200 over 100".into(),
            fingerprint: "00ff00ff00ff00ff".into(),
            attempts: 1,
            first_failed_at: at,
            failed_at: at,
            generation: 1,
            service: "payments".into(),
            build: "0.1.0".into(),
            truncated: Some(Truncated { bytes: 70_000, sha256: "ab".into() }),
        }
    }

    #[test]
    fn a_letter_reads_back_and_a_second_death_replaces_the_first() {
        let mut original = Headers::new();
        original.push("correlation-id", Some(b"c-1"));
        original.push("dlq.mine", Some(b"kept"));
        original.push("dlq.group", Some(b"forged"));
        let first = letter().to_headers(&original);
        assert_eq!(DeadLetter::from_headers(&first), Ok(letter()));

        let second = DeadLetter { generation: 2, correlation_id: Some("c-1".into()), ..letter() };
        let headers = second.to_headers(&first);
        assert_eq!(headers.iter().filter(|(name, _)| *name == b"dlq.generation").count(), 1);
        assert_eq!(headers.iter().filter(|(name, _)| *name == b"dlq.group").count(), 1);
        assert_eq!(headers.text("dlq.mine"), Some("kept"));
        assert_eq!(headers.text("correlation-id"), Some("c-1"), "the record's own headers stay");
        assert_eq!(DeadLetter::from_headers(&headers), Ok(second));
    }

    #[test]
    fn a_bad_header_is_named() {
        let mut headers = letter().to_headers(&Headers::new());
        headers.push("dlq.offset", Some(b"x"));
        let error = DeadLetter::from_headers(&headers).expect_err("not a number");
        assert_eq!(error.name, "dlq.offset");
        assert_eq!(DeadLetter::from_headers(&Headers::new()).expect_err("empty").problem, "missing");
    }

    #[test]
    fn a_long_error_is_cut_at_a_character() {
        let long = DeadLetter { error: "é".repeat(MAX_ERROR), ..letter() };
        let headers = long.to_headers(&Headers::new());
        let kept = headers.text("dlq.error").expect("valid UTF-8");
        assert!(kept.len() <= MAX_ERROR && kept.chars().all(|c| c == 'é'));
    }
}
