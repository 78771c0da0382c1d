//! From the command line to the letters it means.

use std::collections::{BTreeMap, HashMap, HashSet};

use chrono::{DateTime, Utc};
use dead_letters::ACTIONS_TOPIC;
use uuid::Uuid;

use crate::{
    exit::Problem,
    kafka::{Kafka, Start},
    output::warn_unreadable,
    select::Selectors,
    snapshot::{
        Keep, Letter, Prefix, Resolved, Scope, State, Tally, ambiguous, read_ledger, resolve, scan, short_len,
    },
};

/// Which letters a command line means.
#[derive(Clone, Copy, Debug)]
pub struct Which<'a> {
    /// By id.
    pub ids: &'a [Prefix],
    /// By what is known of them; of those with these ids where there are any.
    pub selectors: &'a Selectors,
    /// The state meant where neither ids nor selectors name one.
    pub unless_said: State,
}

impl Which<'_> {
    /// Whether nothing was said.
    pub fn is_everything(&self) -> bool {
        self.ids.is_empty() && self.selectors.is_empty()
    }

    fn means(&self, letter: &Letter, state: State, now: DateTime<Utc>) -> bool {
        if self.ids.is_empty() {
            return self.selectors.means(letter, state, self.unless_said, now);
        }
        self.ids.iter().any(|prefix| prefix.matches(letter.id))
    }
}

/// A letter that was selected and that nothing is done with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftOut {
    /// Its id.
    pub id: Uuid,
    /// Why.
    pub why: String,
    /// The flag that allows it.
    pub allowed_by: Option<&'static str>,
}

impl LeftOut {
    /// A letter that no flag lets in.
    pub fn new(id: Uuid, why: impl Into<String>) -> Self {
        Self { id, why: why.into(), allowed_by: None }
    }
}

/// The letters meant, and what judging them takes.
#[derive(Debug)]
pub struct Gathered<T> {
    /// They, and their states.
    pub letters: Vec<(Letter, State)>,
    /// Named by id, and not matched by the selectors.
    pub left_out: Vec<LeftOut>,
    /// What was noted of all letters in scope.
    pub noted: Vec<T>,
    /// Where the ledger ended when the states were taken from it.
    pub positions: BTreeMap<i32, i64>,
    /// Characters of an id that tell it apart.
    pub id_len: usize,
    /// In words, those that match but for their state, which was not named: `; others do: 3 resolved`, or nothing.
    pub others: String,
}

/// Reads everything in scope once, keeps what is meant, and what `note` makes of each letter, meant or not.
///
/// # Errors
/// When an id is unknown or ambiguous, or Kafka does not answer.
pub fn gather<T>(
    kafka: &Kafka,
    which: &Which<'_>,
    now: DateTime<Utc>,
    note: impl Fn(&Letter, State) -> Option<T>,
) -> anyhow::Result<Gathered<T>> {
    let selectors = which.selectors;
    let scope = Scope::of(kafka, &selectors.dlq, &selectors.group)?;
    let (ledger, positions) = read_ledger(kafka, Keep::Nothing, &Start::Oldest)?;
    warn_unreadable(&ledger);
    let nothing = || (Vec::new(), Vec::new(), Tally::default());
    let ((mut letters, noted, others), folded) =
        scan(kafka, &scope, &ledger, nothing, |(letters, noted, others), letter, state| {
            noted.extend(note(&letter, state));
            if which.means(&letter, state, now) {
                letters.push((letter, state));
            } else if which.ids.is_empty() && selectors.matches(&letter, state, now) {
                others.add(state);
            }
        })?;
    let mut left_out = Vec::new();
    if !which.ids.is_empty() {
        let ids = resolve_all(which.ids, &letters)?;
        letters.retain(|(letter, state)| {
            let kept = ids.contains(&letter.id);
            let matches = selectors.matches(letter, *state, now);
            if kept && !matches {
                left_out.push(LeftOut::new(letter.id, "it does not match the selectors given beside it"));
            }
            kept && matches
        });
    }
    let shown = letters.iter().map(|(letter, _)| letter.id);
    let id_len = short_len(&folded.ids, shown.chain(left_out.iter().map(|left| left.id)));
    let others = match others.is_empty() {
        true => String::new(),
        false => format!("; others do: {others}"),
    };
    Ok(Gathered { letters, left_out, noted, positions, id_len, others })
}

/// Refuses where a part of the ledger cannot be read: what was done before, or by others, may stand there.
///
/// # Errors
/// [`Problem::Refused`].
pub fn ledger_is_known(kafka: &Kafka, force: bool) -> Result<(), Problem> {
    match kafka.gaps().into_iter().find(|gap| gap.topic == ACTIONS_TOPIC) {
        Some(gap) if !force => Err(Problem::Refused(format!(
            "what was done with dead letters before is not known: {gap}; --force goes on all the same"
        ))),
        _ => Ok(()),
    }
}

/// Every prefix must stand for one letter: an id that was mistyped must not be passed over in silence.
fn resolve_all(prefixes: &[Prefix], letters: &[(Letter, State)]) -> Result<HashSet<Uuid>, Problem> {
    let mut by_prefix = HashMap::new();
    for prefix in prefixes {
        let id = match resolve(prefix, letters.iter().map(|(letter, _)| letter.id)) {
            Resolved::One(id) => id,
            Resolved::Many(ids) => return Err(ambiguous(prefix, &ids)),
            Resolved::None => {
                let what = format!("no dead letter's id begins with {prefix}; nothing was done");
                return Err(Problem::NothingMatched(what));
            }
        };
        by_prefix.insert(prefix.to_string(), id);
    }
    Ok(by_prefix.into_values().collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::tests::dead;

    #[test]
    fn every_id_must_stand_for_one_letter() {
        let letters = [(dead(1, 1), State::Open), (dead(2, 1), State::Open)];
        let (a, b) = (letters[0].0.id, letters[1].0.id);
        let prefix = |text: &str| text.parse::<Prefix>().expect("hex");
        let both = [prefix(&a.to_string()), prefix(&b.to_string()[..13])];
        assert_eq!(resolve_all(&both, &letters).ok(), Some(HashSet::from([a, b])));
        let unknown = [prefix(&a.to_string()), prefix(&Uuid::nil().to_string())];
        assert!(matches!(resolve_all(&unknown, &letters), Err(Problem::NothingMatched(_))));
    }
}
