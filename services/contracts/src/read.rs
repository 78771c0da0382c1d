//! Reads JSON, and says what is wrong with it without repeating what stands in it.
//!
//! A text of ours goes to logs, dead letters and people who may not see a customer's data. So an error names the field, what is
//! expected there, what kind of thing was found and where: never the value.

use std::fmt;

use serde::de::DeserializeOwned;
use serde_json::error::Category;
use thiserror::Error;

/// What is wrong with a piece of JSON.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Misfit {
    /// It is not JSON.
    #[error("{problem} at {place}")]
    NotJson {
        /// What no JSON has.
        problem: String,
        /// Where.
        place: TextPosition,
    },
    /// It is, and says something else than expected.
    #[error("{}{problem} at {place}", Named(.field))]
    Unfit {
        /// The field, as a path; empty for the whole.
        field: String,
        /// What is expected, and what is there.
        problem: String,
        /// Where.
        place: TextPosition,
    },
    /// A text that is too long or cannot be stored.
    #[error("`{field}` {problem}")]
    Text {
        /// The field.
        field: &'static str,
        /// What is wrong with it.
        problem: String,
    },
}

/// A place in a text, counted from 1; column in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TextPosition {
    line: usize,
    column: usize,
}

impl fmt::Display for TextPosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {} column {}", self.line, self.column)
    }
}

struct Named<'a>(&'a str);

impl fmt::Display for Named<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() { Ok(()) } else { write!(f, "`{}`: ", self.0) }
    }
}

/// Reads `bytes` as a `T`.
///
/// # Errors
/// Says what does not fit.
pub fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Misfit> {
    serde_json::from_slice(bytes).map_err(|_| explain::<T>(bytes))
}

/// What is wrong with `bytes`, which are no `T`: read once more, following the path.
pub(crate) fn explain<'a, T: serde::Deserialize<'a>>(bytes: &'a [u8]) -> Misfit {
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let (path, error) = match serde_path_to_error::deserialize::<_, T>(&mut json) {
        Ok(_) => match json.end() {
            Err(error) => (String::new(), error),
            Ok(()) => return Misfit::unfit("", "cannot be read".into(), TextPosition { line: 1, column: 1 }),
        },
        Err(error) => (error.path().to_string(), error.into_inner()),
    };
    let place = TextPosition { line: error.line(), column: error.column() };
    let said = error.to_string();
    let said = said.rsplit_once(" at line ").map_or(said.as_str(), |(said, _)| said);
    match error.classify() {
        // Its name is a stranger's, too.
        Category::Data if said.starts_with("unknown field") => Misfit::unfit("", misfit(said), place),
        Category::Data => Misfit::unfit(path.trim_matches(['.', '?']), misfit(said), place),
        // What is known of the field is not said: in a part nobody reads, its name is a stranger's.
        _ => Misfit::NotJson { problem: said.to_owned(), place },
    }
}

impl Misfit {
    fn unfit(field: &str, problem: String, place: TextPosition) -> Self {
        Self::Unfit { field: field.to_owned(), problem, place }
    }
}

/// serde's sentence about a value in our words, and without the value.
fn misfit(said: &str) -> String {
    // The value stands before, and may hold anything: what is expected is after the last of these words.
    let parts = |rest: &'static str| said.strip_prefix(rest)?.rsplit_once(", expected ");
    if let Some((found, expected)) = parts("invalid type: ") {
        return format!("expected {}, found {}", thing(expected), kind(found));
    }
    if let Some((found, expected)) = parts("invalid value: ") {
        return format!("expected {}, found {} that is not one", thing(expected), kind(found));
    }
    if let Some((_, expected)) = parts("invalid length ") {
        return format!("expected {}, found another number of elements", thing(expected));
    }
    if let Some((_, known)) = parts("unknown field ") {
        return format!("there is a field that is not known, expected {known}");
    }
    if let Some((_, known)) = parts("unknown variant ") {
        return format!("expected {known}, found another word");
    }
    if let Some(name) = said.strip_prefix("missing field ") {
        return format!("field {name} is missing");
    }
    if let Some(name) = said.strip_prefix("duplicate field ") {
        return format!("field {name} is there twice");
    }
    if said.starts_with("UUID parsing failed") {
        return "expected a UUID, found another string".to_owned();
    }
    if ["input ", "premature end of input", "trailing input"].iter().any(|start| said.starts_with(start)) {
        return "expected a date and time (RFC 3339), found another string".to_owned();
    }
    // Words of a type of its own, which may repeat anything.
    "the value does not fit".to_owned()
}

/// What is expected, in words of people.
fn thing(expected: &str) -> &str {
    match expected {
        "i64" | "i32" => "a whole number",
        "u64" | "u32" | "u16" => "a whole number that is not negative",
        "f64" => "a number",
        text if text.starts_with("struct ") || text == "a map" => "an object",
        "a sequence" => "a list",
        text if text.contains("UUID") => "a UUID",
        text if text.contains("date and time") => "a date and time (RFC 3339)",
        other => other,
    }
}

/// What was found: its kind alone.
fn kind(found: &str) -> &'static str {
    const KINDS: [(&str, &str); 8] = [
        ("null", "null"),
        ("boolean", "a boolean"),
        ("integer", "a whole number"),
        ("floating point", "a number"),
        ("string", "a string"),
        ("sequence", "a list"),
        ("map", "an object"),
        ("character", "a string"),
    ];
    KINDS.iter().find(|(said, _)| found.starts_with(said)).map_or("something else", |(_, kind)| kind)
}

/// Refuses a text that is longer than `limit` bytes, or that PostgreSQL's text cannot hold.
pub(crate) fn check(field: &'static str, text: &str, limit: usize) -> Result<(), Misfit> {
    let refuse = |problem| Err(Misfit::Text { field, problem });
    if text.len() > limit {
        return refuse(format!("is longer than {limit} bytes: it has {}", text.len()));
    }
    match text.find('\0') {
        Some(at) => refuse(format!("has the character U+0000, at byte {at}")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
