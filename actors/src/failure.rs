//! Failures are values, of four kinds, and the one who meets a failure says which.

use std::{borrow::Cow, fmt};

/// What went wrong: a stable code for machines, a sentence for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cause {
    /// Short, kebab-case, stable: what selectors, alerts and run books name, such as `unsupported-version`.
    pub code: Cow<'static, str>,
    /// The error with its chain of sources, lower case, outermost first.
    pub message: String,
}

impl Cause {
    /// A cause from a code and a sentence.
    pub fn new(code: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        let mut message = message.into();
        if message.contains('\0') {
            // PostgreSQL's text cannot hold it, and the message is stored with the record.
            message = message.replace('\0', "\u{fffd}");
        }
        Self { code: code.into(), message }
    }

    /// A cause from an error and all its sources.
    pub fn from_error(code: impl Into<Cow<'static, str>>, error: &(dyn std::error::Error + 'static)) -> Self {
        let mut message = error.to_string();
        let mut source = error.source();
        while let Some(inner) = source {
            message.push_str(": ");
            message.push_str(&inner.to_string());
            source = inner.source();
        }
        Self::new(code, message)
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} [{}]", self.message, self.code)
    }
}

/// Whose fault a failed event is, which decides what becomes of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// A server is down: nobody's fault. The same batch is retried with backoff, no attempt is counted, nothing
    /// is ever dead-lettered for it.
    Unreachable(Cause),
    /// This event, now: it is parked with its key's followers and retried with backoff, a counted number of times.
    Transient(Cause),
    /// This event, for ever: dead letter at once.
    Permanent(Cause),
}

impl Failure {
    /// A server could not be reached.
    pub fn unreachable(code: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        Self::Unreachable(Cause::new(code, message))
    }

    /// May succeed later.
    pub fn transient(code: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        Self::Transient(Cause::new(code, message))
    }

    /// Will never succeed as it is.
    pub fn permanent(code: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        Self::Permanent(Cause::new(code, message))
    }
}

/// Why a record could not be turned into an event. The original bytes go to the dead-letter topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rejection {
    /// Nobody could read it: not the format, or a required field is missing or ill-typed.
    Poison(Cause),
    /// It can be read and can never be handled here, such as an unsupported version.
    Permanent(Cause),
}
