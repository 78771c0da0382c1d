//! Plans in words: how many, which, and the command that does what was shown.

use chrono::{DateTime, Utc};

use super::gather::Which;
use crate::time::rfc3339;

/// How many letters, in words.
pub fn count(letters: usize) -> String {
    if letters == 1 { "1 dead letter".into() } else { format!("{letters} dead letters") }
}

/// Five ids at most, and how many more there are.
pub fn named(ids: &[String]) -> String {
    match ids.len() {
        0..=5 => ids.join(", "),
        more => format!("{} and {} more", ids[..5].join(", "), more - 5),
    }
}

/// A command line that is put together word by word.
#[derive(Clone, Debug)]
pub struct Command(Vec<String>);

impl Command {
    /// One of the inspector's.
    pub fn new(command: &str) -> Self {
        Self(vec!["dlq-inspector".to_owned(), command.to_owned()])
    }

    /// Letters by their ids.
    pub fn ids(mut self, ids: impl IntoIterator<Item = String>) -> Self {
        self.0.extend(ids);
        self
    }

    /// The selectors that meant them, as of now: what dies later is not meant.
    pub fn selectors(mut self, which: &Which<'_>, now: DateTime<Utc>) -> Self {
        self.0.extend(which.selectors.flags(now));
        if which.selectors.until.is_none() {
            self.0.extend(["--until".into(), rfc3339(now)]);
        }
        if which.selectors.is_empty() {
            self.0.extend(["--state".into(), which.unless_said.as_str().into()]);
        }
        self
    }

    /// A flag, when it is set.
    pub fn flag(mut self, flag: &str, set: bool) -> Self {
        self.0.extend(set.then(|| flag.to_owned()));
        self
    }

    /// A flag with its value, when there is one.
    pub fn option(mut self, flag: &str, value: Option<&str>) -> Self {
        self.0.extend(value.into_iter().flat_map(|value| [flag.to_owned(), value.to_owned()]));
        self
    }

    /// As it is typed.
    pub fn text(self) -> String {
        self.0.iter().map(|word| quote(word)).collect::<Vec<_>>().join(" ")
    }
}

/// A word as a shell reads it back.
fn quote(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:@=+,%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_survive_the_shell() {
        assert_eq!(quote("2026-01-01T00:00:00.000Z"), "2026-01-01T00:00:00.000Z");
        assert_eq!(quote("it's $HOME"), r"'it'\''s $HOME'");
        assert_eq!(quote(""), "''");
    }

    #[test]
    fn many_ids_are_counted() {
        let ids: Vec<_> = (0..7).map(|i| i.to_string()).collect();
        assert_eq!(named(&ids), "0, 1, 2, 3, 4 and 2 more");
        assert_eq!(named(&ids[..2]), "0, 1");
    }
}
