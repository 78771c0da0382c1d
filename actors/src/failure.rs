//! Failures are values, and the one who meets a failure says of which kind it is.

use std::{borrow::Cow, error::Error, fmt};

use tokio_postgres::error::DbError;

use crate::sql::text;

/// Longest message of a cause, in bytes: it goes to logs, headers, rows and people.
pub const MAX_MESSAGE: usize = 2 << 10;

/// What went wrong: a stable code for machines, a sentence for people. Values of a record have no place in it.
///
/// ```
/// use actors::Cause;
///
/// let cause = Cause::new("unknown-order", "the event is about an order that does not exist");
/// assert_eq!(cause.to_string(), "the event is about an order that does not exist [unknown-order]");
///
/// let error = "many".parse::<i64>().unwrap_err();
/// let cause = Cause::from_error("not-a-number", &error);
/// assert_eq!((&*cause.code, &*cause.message), ("not-a-number", "invalid digit found in string"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cause {
    /// Short, kebab-case, stable: what selectors, alerts and run books name, such as `unsupported-version`.
    pub code: Cow<'static, str>,
    /// The error with its chain of sources, lower case, outermost first; at most [`MAX_MESSAGE`] bytes.
    pub message: String,
}

impl Cause {
    /// A cause from a code and a sentence, which is cut where it is too long.
    pub fn new(code: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        let message = message.into();
        let mut message = match shorten(&message, MAX_MESSAGE) {
            Cow::Borrowed(_) => message,
            Cow::Owned(cut) => cut,
        };
        if message.contains('\0') {
            // PostgreSQL's text cannot hold it, and the message is stored with the record.
            message = message.replace('\0', "\u{fffd}");
        }
        Self { code: code.into(), message }
    }

    /// A cause from an error and all its sources. Of what PostgreSQL says, the parts that hold no values of rows.
    pub fn from_error(code: impl Into<Cow<'static, str>>, error: &(dyn Error + 'static)) -> Self {
        let mut message = said(error);
        let mut source = error.source();
        while let Some(inner) = source {
            message.push_str(": ");
            message.push_str(&said(inner));
            source = inner.source();
        }
        Self::new(code, message)
    }
}

fn said(error: &(dyn Error + 'static)) -> String {
    error.downcast_ref::<DbError>().map_or_else(|| error.to_string(), text)
}

/// `text`, or as much of it as fits into `limit` bytes with a sign that there was more.
pub(crate) fn shorten(text: &str, limit: usize) -> Cow<'_, str> {
    if text.len() <= limit {
        return text.into();
    }
    let end = text.floor_char_boundary(limit.saturating_sub('…'.len_utf8()));
    format!("{}…", &text[..end]).into()
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} [{}]", self.message, self.code)
    }
}

impl Error for Cause {}

/// Whose fault a failed event is, which decides what becomes of it.
///
/// ```
/// use actors::Failure;
///
/// fn judge(status: u16) -> Result<(), Failure> {
///     match status {
///         200..300 => Ok(()),
///         // This event, now: parked with its key's followers, and tried again.
///         409 | 429 => Err(Failure::transient("busy", "the provider cannot take it now")),
///         // This event, for ever: a dead letter.
///         400..500 => Err(Failure::permanent("refused", "the provider will never take it")),
///         // Nobody's fault: nothing counts.
///         _ => Err(Failure::unreachable("provider-down", "the provider is not there")),
///     }
/// }
/// assert!(matches!(judge(422), Err(Failure::Permanent(cause)) if cause.code == "refused"));
/// ```
///
/// One server that many events need is better asked through a [`Breaker`](crate::Breaker), which tells whether an error is this event's fault or the
/// server's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// A server is down: nobody's fault. The event waits with its key's followers, no attempt is counted, nothing is ever
    /// dead-lettered for it; one at a time is tried until the server answers.
    Unreachable(Cause),
    /// The domain waits for something, such as a courier to be free: the event is parked with its key's followers and tried
    /// again with backoff. No attempt is counted and no circuit sees it: the handler gives up when it is old enough
    /// ([`Attempt::age`](crate::Attempt::age)), and then decides otherwise.
    NotYet(Cause),
    /// This event, now: it is parked with its key's followers and retried with backoff, until its time has run out.
    Transient(Cause),
    /// This event, for ever: dead letter at once.
    Permanent(Cause),
}

impl Failure {
    /// A server could not be reached.
    pub fn unreachable(code: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        Self::Unreachable(Cause::new(code, message))
    }

    /// The domain waits for something.
    pub fn not_yet(code: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        Self::NotYet(Cause::new(code, message))
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
///
/// ```
/// use actors::{Cause, Record, Rejection};
///
/// fn number(record: &Record) -> Result<i64, Rejection> {
///     let text = String::from_utf8_lossy(record.value.as_deref().unwrap_or_default());
///     text.trim().parse().map_err(|error| Rejection::Poison(Cause::from_error("not-a-number", &error)))
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rejection {
    /// Nobody could read it: not the format, or a required field is missing or ill-typed.
    Poison(Cause),
    /// It can be read and can never be handled here, such as an unsupported version.
    Permanent(Cause),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_cut_at_a_character() {
        let long = Cause::new("long", "é".repeat(MAX_MESSAGE)).message;
        assert!(
            long.len() <= MAX_MESSAGE && long.len() > MAX_MESSAGE - 4 && long.ends_with("é…"),
            "{}",
            long.len()
        );
        let fits = "x".repeat(MAX_MESSAGE);
        assert_eq!(Cause::new("fits", fits.as_str()).message, fits);
        assert_eq!(Cause::new("nul", "a\0b").message, "a\u{fffd}b");
    }
}
