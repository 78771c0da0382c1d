//! What `groups` prints.

use dead_letters::RequeueOutcome;
use serde::Serialize;
use uuid::Uuid;

use crate::{
    snapshot::{Alike, Ledger},
    time::{from_ms, rfc3339},
};

/// Dead letters that died alike, as `groups` prints them. Times are RFC 3339 in UTC.
#[derive(Clone, Debug, Serialize)]
pub struct GroupJson<'a> {
    /// What they have in common; `null` of foreign records.
    pub fingerprint: Option<&'a str>,
    /// The consumer group they died in.
    pub group: &'a str,
    /// The version of the service that gave them up.
    pub build: Option<&'a str>,
    /// `poison`, `permanent`, `exhausted`, `crash` or `foreign`.
    pub class: &'a str,
    /// The error's stable code.
    pub error_code: Option<&'a str>,
    /// The error of the newest.
    pub error: &'a str,
    /// How many: open ones, unless `--state` or `--all` says otherwise.
    pub letters: u64,
    /// Different keys among them.
    pub keys: usize,
    /// When the first of their records died: of one that was put back and died again its first death, where that is still kept.
    pub first_failed_at: String,
    /// When the last one died.
    pub last_failed_at: String,
    /// When one of this fingerprint and consumer group was last put back, whatever its build.
    pub last_requeued_at: Option<String>,
    /// What became of that; `null` also where nothing is known yet.
    pub last_outcome: Option<RequeueOutcome>,
    /// What people should know.
    pub note: Option<&'a str>,
    /// Who wrote that.
    pub note_by: Option<&'a str>,
    /// When.
    pub note_at: Option<String>,
    /// The id of the newest.
    pub sample_id: Uuid,
}

impl<'a> GroupJson<'a> {
    /// The object for `alike`.
    pub fn new(alike: &'a Alike, ledger: &'a Ledger) -> Self {
        let letter = &alike.sample;
        let note = letter.fingerprint().and_then(|fingerprint| ledger.note(fingerprint));
        Self {
            fingerprint: letter.fingerprint(),
            group: letter.group(),
            build: letter.dead().map(|dead| dead.build.as_str()),
            class: letter.class(),
            error_code: letter.code(),
            error: letter.error(),
            letters: alike.letters,
            keys: alike.keys,
            first_failed_at: rfc3339(alike.first),
            last_failed_at: rfc3339(alike.last),
            last_requeued_at: alike.tried.map(|tried| rfc3339(from_ms(tried.at_ms))),
            last_outcome: alike.tried.and_then(|tried| tried.outcome),
            note: note.map(|note| note.text.as_str()),
            note_by: note.map(|note| note.by.as_str()),
            note_at: note.map(|note| rfc3339(note.at)),
            sample_id: letter.id,
        }
    }
}
