//! How a command that writes says what it does, to people and to scripts.

use std::{collections::BTreeMap, io};

use chrono::{DateTime, Utc};
use serde::Serialize;
use uuid::Uuid;

use super::{gather::LeftOut, words::named};
use crate::{
    output::{Ink, Out, complain},
    time::age,
};

/// Letters up to which each is named; above, they are counted.
pub const NAMED: usize = 20;

/// Where it says so.
#[derive(Debug)]
pub struct Voice<'a> {
    out: &'a mut Out,
    id_len: usize,
    /// A line that could not be written must not stop a transaction: it is told when there is time.
    error: Option<io::Error>,
}

impl<'a> Voice<'a> {
    /// One that shortens ids to `id_len` characters.
    pub fn new(out: &'a mut Out, id_len: usize) -> Self {
        Self { out, id_len, error: None }
    }

    /// What is printed to.
    pub fn out(&mut self) -> &mut Out {
        self.out
    }

    /// An id as it is shown and typed.
    pub fn short(&self, id: Uuid) -> String {
        let text = id.to_string();
        text.get(..self.id_len).unwrap_or(&text).to_owned()
    }

    /// Says something: `text` to people, `json` to scripts.
    ///
    /// # Errors
    /// When it cannot be written, or something before it could not.
    pub fn say(&mut self, text: String, json: &impl Serialize) -> anyhow::Result<()> {
        self.heard()?;
        self.note(text, json);
        self.heard()
    }

    /// The same, in the middle of a transaction: that it cannot be written is told later.
    pub fn note(&mut self, text: String, json: &impl Serialize) {
        let result = if self.out.is_json() { self.out.json(json) } else { self.out.line(text) };
        self.keep(result);
    }

    /// Flushes what was written, and keeps the first error.
    pub fn keep(&mut self, result: io::Result<()>) {
        if let Err(error) = result.and_then(|()| self.out.flush()) {
            self.error.get_or_insert(error);
        }
    }

    /// Whether everything could be written so far.
    ///
    /// # Errors
    /// What could not, once.
    pub fn heard(&mut self) -> anyhow::Result<()> {
        self.error.take().map_or(Ok(()), |error| Err(error.into()))
    }

    /// A plan as its ids alone; what it leaves out is said beside them.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn ids(&mut self, ids: impl IntoIterator<Item = Uuid>, left_out: &[LeftOut]) -> anyhow::Result<()> {
        ids.into_iter().try_for_each(|id| self.out.line(id.to_string()))?;
        self.out.flush()?;
        left_out.iter().for_each(|left| complain(&format!("left out: {}: {}", left.id, left.why)));
        Ok(())
    }

    /// What a plan leaves out, by the reason.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn left_out(&mut self, left_out: &[LeftOut]) -> io::Result<()> {
        let mut reasons: BTreeMap<(&str, Option<&str>), Vec<String>> = BTreeMap::new();
        for left in left_out {
            reasons.entry((&left.why, left.allowed_by)).or_default().push(self.short(left.id));
        }
        for ((why, flag), ids) in reasons {
            let flag = flag.map(|flag| format!(" ({flag} allows it)")).unwrap_or_default();
            self.warn(&format!("left out: {}: {why}{flag}", named(&ids)))?;
        }
        Ok(())
    }

    /// A line to be seen.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn warn(&mut self, text: &str) -> io::Result<()> {
        let line = self.out.ink(text, Ink::Warn);
        self.out.line(line)
    }
}

/// Since when the oldest and the newest of those times have been, for a table's OLDEST and NEWEST.
pub fn ages(now: DateTime<Utc>, times: impl Iterator<Item = DateTime<Utc>> + Clone) -> [String; 2] {
    let shown = |at: Option<DateTime<Utc>>| at.map(|at| age(now, at)).unwrap_or_default();
    [shown(times.clone().min()), shown(times.max())]
}
