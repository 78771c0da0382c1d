//! What event a record holds: the one thing that an audit has to be told of the events themselves.

use std::sync::Arc;

use serde_json::Value;
use uuid::Uuid;

/// An event, as far as an audit wants to know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Its id, as the inbox has it.
    pub id: Uuid,
    /// When it happened, in milliseconds since the Unix epoch; nothing where it does not say.
    pub at_ms: Option<i64>,
    /// Its correlation id.
    pub correlation_id: Option<String>,
}

/// Reads a record's value; nothing where it holds no event.
pub type ReadEvent = Arc<dyn Fn(&[u8]) -> Option<Event> + Send + Sync>;

/// Where a JSON body has what is asked, as JSON pointers (RFC 6901).
#[derive(Clone, Debug)]
pub struct Pointers {
    /// The event's id, a UUID.
    pub id: String,
    /// When it happened, RFC 3339.
    pub occurred_at: String,
    /// The correlation id.
    pub correlation_id: String,
}

impl Pointers {
    /// A reader of JSON bodies.
    pub fn reader(self) -> ReadEvent {
        Arc::new(move |body| self.read(body))
    }

    fn read(&self, body: &[u8]) -> Option<Event> {
        let body: Value = serde_json::from_slice(body).ok()?;
        let text = |pointer: &str| body.pointer(pointer).and_then(Value::as_str);
        let at = text(&self.occurred_at).and_then(|text| chrono::DateTime::parse_from_rfc3339(text).ok());
        Some(Event {
            id: text(&self.id)?.parse().ok()?,
            at_ms: at.map(|at| at.timestamp_millis()),
            correlation_id: text(&self.correlation_id).map(str::to_owned),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pointers_lead_into_any_json_and_what_is_missing_is_not_invented() {
        let read = Pointers {
            id: "/meta/id".into(),
            occurred_at: "/at".into(),
            correlation_id: "/meta/trace".into(),
        }
        .reader();
        let id = Uuid::from_u128(7);
        let body = format!(r#"{{"meta":{{"id":"{id}","trace":"t"}},"at":"1970-01-01T00:00:01Z"}}"#);
        let whole = Event { id, at_ms: Some(1_000), correlation_id: Some("t".into()) };
        assert_eq!(read(body.as_bytes()), Some(whole));
        let bare = format!(r#"{{"meta":{{"id":"{id}"}}}}"#);
        assert_eq!(read(bare.as_bytes()), Some(Event { id, at_ms: None, correlation_id: None }));
        for other in ["", "{}", r#"{"meta":{"id":"7"}}"#, r#"{"meta":{"id":7}}"#, "[1"] {
            assert_eq!(read(other.as_bytes()), None, "{other}");
        }
    }
}
