//! Ids on a command line, or on standard input.

use std::{io::Read as _, str::FromStr};

use clap::Args as ClapArgs;

use crate::{exit::Problem, snapshot::Prefix};

/// Bytes of standard input that are read: room for half a million ids.
const MOST: u64 = 20 << 20;

/// Which letters, by id.
#[derive(Clone, Debug, Default, ClapArgs)]
pub struct Ids {
    /// Ids, or the beginnings of them; - reads them from standard input
    #[arg(value_name = "ID|-")]
    ids: Vec<Id>,
}

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Id {
    Prefix(Prefix),
    StandardInput,
}

impl FromStr for Id {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "-" { Ok(Self::StandardInput) } else { text.parse().map(Self::Prefix) }
    }
}

impl Ids {
    /// Whether any are named, or to be read.
    pub fn are_given(&self) -> bool {
        !self.ids.is_empty()
    }

    /// All of them. Who says that they are on standard input means those there and, where there is none, nothing: never everything.
    ///
    /// # Errors
    /// When standard input holds no id, or something else.
    pub fn read(&self) -> Result<Vec<Prefix>, Problem> {
        self.read_from(|| {
            let mut text = String::new();
            std::io::stdin().lock().take(MOST + 1).read_to_string(&mut text).map(|_| text)
        })
    }

    fn read_from(&self, input: impl FnOnce() -> std::io::Result<String>) -> Result<Vec<Prefix>, Problem> {
        let named = self.ids.iter().filter_map(|id| match id {
            Id::Prefix(prefix) => Some(prefix.clone()),
            Id::StandardInput => None,
        });
        let mut ids: Vec<_> = named.collect();
        if !self.ids.contains(&Id::StandardInput) {
            return Ok(ids);
        }
        let text = input()
            .map_err(|error| Problem::Usage(format!("ids on standard input cannot be read: {error}")))?;
        if text.len() as u64 > MOST {
            return Err(Problem::Usage("there are too many ids on standard input".into()));
        }
        if text.trim().is_empty() {
            return Err(Problem::NothingMatched("there is no id on standard input; nothing was done".into()));
        }
        for word in text.split_whitespace() {
            let id = word.parse().map_err(|error| Problem::Usage(format!("standard input: {error}")))?;
            ids.push(id);
        }
        Ok(ids)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_named_or_read_and_nothing_read_is_not_everything() {
        let of =
            |words: &[&str]| Ids { ids: words.iter().map(|word| word.parse().expect("an id")).collect() };
        let read = |ids: &Ids, input: &str| {
            let read = ids.read_from(|| Ok(input.to_owned()));
            read.map(|ids| ids.iter().map(Prefix::to_string).collect::<Vec<_>>())
        };
        assert_eq!(read(&of(&["ab", "cd"]), "ef").ok(), Some(vec!["ab".into(), "cd".into()]));
        assert_eq!(
            read(&of(&["ab", "-"]), "cd\nEF \n").ok(),
            Some(vec!["ab".into(), "cd".into(), "ef".into()])
        );
        assert_eq!(read(&of(&[]), "").ok(), Some(vec![]));
        assert!(matches!(read(&of(&["-"]), " \n"), Err(Problem::NothingMatched(_))));
        assert!(matches!(read(&of(&["ab", "-"]), ""), Err(Problem::NothingMatched(_))));
        assert!(matches!(read(&of(&["-"]), "ab {\"id\":1}"), Err(Problem::Usage(_))));
        assert!("--".parse::<Id>().is_err() && "x".parse::<Id>().is_err());
    }
}
