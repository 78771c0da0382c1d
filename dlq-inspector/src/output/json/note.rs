//! What `note` prints.

use chrono::{DateTime, Utc};
use serde::Serialize;

use crate::time::rfc3339;

/// A note that was written, or taken away.
#[derive(Clone, Debug, Serialize)]
pub struct NoteJson<'a> {
    /// The failures' fingerprint.
    pub fingerprint: &'a str,
    /// What people should know; `null` when it was taken away.
    pub note: Option<&'a str>,
    /// Who.
    pub by: &'a str,
    /// When, RFC 3339 in UTC.
    pub at: String,
}

impl<'a> NoteJson<'a> {
    /// The object for a note; an empty one is none.
    pub fn new(fingerprint: &'a str, text: &'a str, by: &'a str, at: DateTime<Utc>) -> Self {
        Self { fingerprint, note: Some(text).filter(|text| !text.is_empty()), by, at: rfc3339(at) }
    }
}
