//! What passes through a handler: events, tries of them, and what they lead to.

use std::{borrow::Cow, time::Duration};

use chrono::{DateTime, Utc};
use dead_letters::{Class, Headers};
use uuid::Uuid;

/// A decoded record.
///
/// ```
/// use actors::{Decoded, Event, Record, Rejection};
///
/// /// Whose event it is; records without a key are somebody else's.
/// fn decode(record: &Record) -> Result<Decoded<Vec<u8>>, Rejection> {
///     let Some(key) = &record.key else { return Ok(Decoded::Ignored) };
///     Ok(Decoded::Event(Event {
///         id: record.place_id(),
///         event_type: "CLICK".into(),
///         correlation_id: record.headers.text("correlation-id").unwrap_or_default().into(),
///         body: key.to_vec(),
///     }))
/// }
/// ```
#[derive(Debug)]
pub enum Decoded<E> {
    /// An event for this handler.
    Event(Event<E>),
    /// Not for this handler: it touches nothing but the lane's count of ignored records.
    Ignored,
}

/// An event with what the runtime needs to know of it.
#[derive(Debug)]
pub struct Event<E> {
    /// Names the event across all topics and redeliveries: what the inbox dedupes by.
    pub id: Uuid,
    /// For dead letters and logs, such as `ORDER_CREATED`.
    pub event_type: String,
    /// For dead letters and logs.
    pub correlation_id: String,
    /// What the handler works with.
    pub body: E,
}

/// The attempt at hand, for the handler.
///
/// ```
/// use std::time::Duration;
///
/// use actors::{Attempt, Failure};
///
/// /// Waits for a courier, and for no longer than an hour.
/// fn assign(attempt: &Attempt, free: Option<u32>) -> Result<Option<u32>, Failure> {
///     match free {
///         None if attempt.age < Duration::from_secs(3_600) => {
///             Err(Failure::not_yet("no-courier-free", "every courier has an order in hand"))
///         }
///         courier => Ok(courier),
///     }
/// }
/// ```
#[derive(Clone, Debug)]
pub struct Attempt {
    /// The event's id.
    pub event_id: Uuid,
    /// The event's correlation id.
    pub correlation_id: String,
    /// Failed attempts before this one, durable: 0 on the first.
    pub failed_attempts: u32,
    /// Actors this record has killed: 0 on the first try.
    pub crashes: u32,
    /// 1 for an event that never died; the n-th requeue carries n + 1.
    pub generation: u32,
    /// The time of this try by the database's clock, one for the whole batch. In `prepare` it is a little earlier than in
    /// `decide`.
    pub now: DateTime<Utc>,
    /// How long ago it was first found that the event cannot be handled yet; zero on the first try. Time in which it
    /// was due and not run is left out.
    pub age: Duration,
}

/// A record to publish, written with the effect and published after the commit, in the order it was emitted.
///
/// ```
/// use actors::{Emit, Headers};
///
/// let mut headers = Headers::new();
/// headers.push("content-type", Some(b"application/json"));
/// let (key, value) = (Some(b"alice".to_vec()), Some(b"{}".to_vec()));
/// let emit = Emit { topic: "clicks".into(), key, value, headers };
/// assert!(emit.size() > 7 && emit.size() < actors::MAX_RECORD);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Emit {
    /// Topic to publish to.
    pub topic: String,
    /// Key; records of one key keep their order.
    pub key: Option<Vec<u8>>,
    /// Body; `None` is a tombstone.
    pub value: Option<Vec<u8>>,
    /// Headers.
    pub headers: Headers,
}

impl Emit {
    /// Bytes of key, value and headers together.
    pub fn size(&self) -> usize {
        let part = |bytes: &Option<Vec<u8>>| bytes.as_ref().map_or(0, Vec::len);
        part(&self.key) + part(&self.value) + self.headers.encoded().len()
    }
}

/// The death of an event, for the handler that could not handle it.
#[derive(Clone, Copy, Debug)]
pub struct Death<'a> {
    /// The id of its dead letter.
    pub dead_letter_id: Uuid,
    /// Of which kind the failure was.
    pub class: Class,
    /// The code of the failure.
    pub code: &'a str,
    /// 1 for the first death; one that was put back n times dies in generation n + 1.
    pub generation: u32,
}

/// What an event does to the state of its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change<S> {
    /// Nothing.
    Keep,
    /// This is the state from now on.
    Save(S),
    /// There is none from now on: for the next event it is as if there had never been one.
    Delete,
}

impl<S> Change<S> {
    /// The state to save, if there is one.
    pub fn saved(self) -> Option<S> {
        match self {
            Self::Save(state) => Some(state),
            Self::Keep | Self::Delete => None,
        }
    }
}

impl<S> From<Option<S>> for Change<S> {
    /// `None` keeps what is there.
    fn from(changed: Option<S>) -> Self {
        changed.map_or(Self::Keep, Self::Save)
    }
}

/// What became of an event: what it does to the state, and what is to be published.
///
/// ```
/// use actors::{Change, Decision};
///
/// let grown: Decision<u32> = Decision::save(3);
/// assert_eq!(grown.state, Change::Save(3));
/// assert_eq!(Decision::<u32>::nothing().state, Change::Keep);
/// assert_eq!(Decision::<u32>::delete().state, Change::Delete);
/// ```
#[derive(Debug)]
pub struct Decision<S> {
    /// What becomes of the state.
    pub state: Change<S>,
    /// Published in order, after the commit.
    pub emit: Vec<Emit>,
    /// Why the event comes to nothing, if it does: to be told to whoever has put it back from a dead letter. It counts as applied.
    pub moot: Option<Cow<'static, str>>,
    /// What the log is to say of it once it is committed, with the event's place and ids: for what somebody will look for, one line for
    /// each, since a line for every event would be more than anybody reads.
    pub note: Option<&'static str>,
}

impl<S> Decision<S> {
    /// Nothing changes and nothing is emitted.
    pub fn nothing() -> Self {
        Self { state: Change::Keep, emit: Vec::new(), moot: None, note: None }
    }

    /// The event comes too late, or is none of this state's any more: nothing changes, for this reason.
    pub fn moot(reason: impl Into<Cow<'static, str>>) -> Self {
        Self { moot: Some(reason.into()), ..Self::nothing() }
    }

    /// The state changes, and nothing is emitted.
    pub fn save(state: S) -> Self {
        Self { state: Change::Save(state), ..Self::nothing() }
    }

    /// The state goes, and nothing is emitted.
    pub fn delete() -> Self {
        Self { state: Change::Delete, ..Self::nothing() }
    }
}
