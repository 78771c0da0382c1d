//! What is told of a piece of work.

use std::{borrow::Cow, time::SystemTime};

use super::parent::TraceParent;

/// What a span stands for, as OpenTelemetry has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Work that nobody outside asked for.
    Internal,
    /// A request that was answered.
    Server,
    /// A record that was sent.
    Producer,
    /// A record that was processed.
    Consumer,
}

/// The value of an attribute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// A text.
    Text(Cow<'static, str>),
    /// A number.
    Number(i64),
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::Number(number)
    }
}

impl From<&'static str> for Value {
    fn from(text: &'static str) -> Self {
        Self::Text(text.into())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text.into())
    }
}

/// A piece of work that has ended.
#[derive(Clone, Debug)]
pub struct Span {
    /// What is done to what, such as `process orders`.
    pub name: String,
    /// What it stands for.
    pub kind: Kind,
    /// Itself.
    pub context: TraceParent,
    /// The span it is part of; none for the first of a trace.
    pub parent: Option<u64>,
    /// Spans that it goes back to, of the same trace.
    pub links: Vec<u64>,
    /// When it began.
    pub started: SystemTime,
    /// When it ended.
    pub ended: SystemTime,
    /// Its attributes, by the names of the semantic conventions and `backburner.…`.
    pub attributes: Vec<(&'static str, Value)>,
    /// Why it failed, if it did: a code, and no value of a record.
    pub error: Option<String>,
}
