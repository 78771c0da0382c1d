//! A record of a dead-letter topic, without its body.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use dead_letters::{self, Class, DeadLetter, Headers};
use serde::Serialize;
use uuid::Uuid;

use crate::{kafka::Raw, time::from_ms};

/// Where a letter lies.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The dead-letter topic.
    pub topic: Arc<str>,
    /// The partition there.
    pub partition: i32,
    /// The offset there.
    pub offset: i64,
}

/// What is known of a letter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum About {
    /// All of it.
    Dead(Box<DeadLetter>),
    /// It is no dead letter, or a damaged one.
    Foreign(Box<Foreign>),
}

/// A record that lies in a dead-letter topic and is no dead letter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Foreign {
    /// Why it is none.
    pub why: String,
    /// The group whose topic it lies in.
    pub group: String,
    /// As its headers say, if they do.
    pub event_type: Option<String>,
    /// As its headers say, if they do.
    pub correlation_id: Option<String>,
    /// When it was written.
    pub at: DateTime<Utc>,
}

/// A letter: everything but its body, which is fetched by [`Place`] when it is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Letter {
    /// The dead letter's id; a foreign record has one made of its place.
    pub id: Uuid,
    /// Where it lies.
    pub place: Place,
    /// The broker's timestamp of the dead letter, milliseconds since the epoch.
    pub timestamp_ms: i64,
    /// The key.
    pub key: Option<Box<[u8]>>,
    /// What is known of it.
    pub about: About,
}

/// What became of a letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// Nothing yet.
    Open,
    /// Put back, outcome unknown.
    Requeued,
    /// Its group said applied, already applied or ignored.
    Resolved,
    /// Died anew; the new letter is the one to look at.
    DeadAgain,
    /// Closed by an operator.
    Discarded,
    /// No dead letter at all.
    Foreign,
}

impl State {
    /// The word people read and write.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Requeued => "requeued",
            Self::Resolved => "resolved",
            Self::DeadAgain => "dead-again",
            Self::Discarded => "discarded",
            Self::Foreign => "foreign",
        }
    }
}

impl Letter {
    /// Reads a record; whatever it is, there is something to say about it.
    pub fn read(topic: &Arc<str>, raw: &Raw<'_>) -> Self {
        let place = Place { topic: topic.clone(), partition: raw.partition, offset: raw.offset };
        let (id, about) = match DeadLetter::from_headers(&raw.headers) {
            Ok(letter) => (letter.id, About::Dead(Box::new(letter))),
            Err(bad) => foreign(&place, raw.timestamp_ms, &raw.headers, &bad.to_string()),
        };
        Self { id, place, timestamp_ms: raw.timestamp_ms, key: raw.key.map(Into::into), about }
    }

    /// The dead letter, unless it is foreign.
    pub fn dead(&self) -> Option<&DeadLetter> {
        match &self.about {
            About::Dead(letter) => Some(letter),
            About::Foreign(_) => None,
        }
    }

    /// The consumer group it died in.
    pub fn group(&self) -> &str {
        match &self.about {
            About::Dead(letter) => &letter.group,
            About::Foreign(foreign) => &foreign.group,
        }
    }

    /// Its class, or `foreign`.
    pub fn class(&self) -> &'static str {
        self.dead().map_or("foreign", |letter| Class::as_str(letter.class))
    }

    /// The error's code.
    pub fn code(&self) -> Option<&str> {
        self.dead().map(|letter| letter.error_code.as_str())
    }

    /// The error, or why it is foreign.
    pub fn error(&self) -> &str {
        match &self.about {
            About::Dead(letter) => &letter.error,
            About::Foreign(foreign) => &foreign.why,
        }
    }

    /// What failures alike have in common.
    pub fn fingerprint(&self) -> Option<&str> {
        self.dead().map(|letter| letter.fingerprint.as_str())
    }

    /// The event's type.
    pub fn event_type(&self) -> Option<&str> {
        match &self.about {
            About::Dead(letter) => letter.event_type.as_deref(),
            About::Foreign(foreign) => foreign.event_type.as_deref(),
        }
    }

    /// The correlation id.
    pub fn correlation_id(&self) -> Option<&str> {
        match &self.about {
            About::Dead(letter) => letter.correlation_id.as_deref(),
            About::Foreign(foreign) => foreign.correlation_id.as_deref(),
        }
    }

    /// When it died; of a foreign record, when it was written.
    pub fn failed_at(&self) -> DateTime<Utc> {
        match &self.about {
            About::Dead(letter) => letter.failed_at,
            About::Foreign(foreign) => foreign.at,
        }
    }
}

fn foreign(place: &Place, timestamp_ms: i64, headers: &Headers, why: &str) -> (Uuid, About) {
    let name = format!("dead-letter-topic:{}/{}/{}", place.topic, place.partition, place.offset);
    let said = |name: &str| headers.text(name).map(str::to_owned);
    let about = Foreign {
        why: format!("not a dead letter: {why}"),
        group: dead_letters::group_of(&place.topic).unwrap_or(&place.topic).to_owned(),
        event_type: said("dlq.event-type"),
        correlation_id: said("dlq.correlation-id").or_else(|| said("correlation-id")),
        at: from_ms(timestamp_ms),
    };
    (Uuid::new_v5(&Uuid::NAMESPACE_URL, name.as_bytes()), About::Foreign(Box::new(about)))
}

#[cfg(test)]
pub(crate) mod tests {
    use dead_letters::{Offset, TopicPartition};

    use super::*;

    /// A letter of group `g` that came from `orders/0` at `offset`.
    pub(crate) fn dead(offset: i64, generation: u32) -> Letter {
        let origin = TopicPartition::new("orders", 0);
        let id = dead_letters::letter_id(&origin, Offset(offset), 0, "g", generation);
        let about = DeadLetter {
            id,
            group: "g".into(),
            handler: "h".into(),
            class: Class::Permanent,
            origin,
            offset: Offset(offset),
            timestamp_ms: 0,
            event_id: None,
            event_type: Some("ORDER_CREATED".into()),
            correlation_id: None,
            error_code: "amount-over-limit".into(),
            error: "200 over 100".into(),
            fingerprint: "00ff00ff00ff00ff".into(),
            attempts: 1,
            first_failed_at: from_ms(1_000),
            failed_at: from_ms(offset * 1_000),
            generation,
            service: "s".into(),
            build: "0".into(),
            truncated: None,
        };
        Letter {
            id,
            place: Place { topic: "g.dlq".into(), partition: 0, offset: offset * 10 + i64::from(generation) },
            timestamp_ms: 0,
            key: Some((*b"k").into()),
            about: About::Dead(Box::new(about)),
        }
    }

    #[test]
    fn a_foreign_record_is_shown_with_what_is_known() {
        let headers: Headers = [("correlation-id", Some(&b"c-1"[..]))].into_iter().collect();
        let raw = |headers| Raw { partition: 1, offset: 7, timestamp_ms: 5, key: None, value: None, headers };
        let topic: Arc<str> = "g.dlq".into();
        let letter = Letter::read(&topic, &raw(headers));
        assert_eq!((letter.group(), letter.class(), letter.correlation_id()), ("g", "foreign", Some("c-1")));
        assert_eq!(letter.error(), "not a dead letter: header dlq.id is missing");
        let bare = Letter::read(&topic, &raw(Headers::new()));
        assert_eq!(bare.id, letter.id, "the same place has the same id");
    }
}
