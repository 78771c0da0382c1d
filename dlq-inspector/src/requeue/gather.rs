//! From the command line to the letters it means.

use std::collections::{BTreeMap, HashMap, HashSet};

use chrono::{DateTime, Utc};
use dead_letters::ACTIONS_TOPIC;
use uuid::Uuid;

use super::plan::{LeftOut, OpenKey};
use crate::{
    args::RequeueArgs,
    exit::Problem,
    kafka::{Kafka, Start},
    output::warn_unreadable,
    snapshot::{
        Keep, Letter, Prefix, Resolved, Scope, State, ambiguous, read_ledger, resolve, scan, short_len,
    },
};

/// The letters meant, and what judging them takes.
#[derive(Debug)]
pub(super) struct Gathered {
    pub(super) letters: Vec<(Letter, State)>,
    pub(super) left_out: Vec<LeftOut>,
    /// Every open letter that has a key.
    pub(super) open: Vec<OpenKey>,
    /// Where the ledger ended when the states were taken from it.
    pub(super) positions: BTreeMap<i32, i64>,
    /// Characters of an id that tell it apart.
    pub(super) id_len: usize,
}

#[derive(Debug, Default)]
struct Found {
    letters: Vec<(Letter, State)>,
    open: Vec<OpenKey>,
}

/// Reads everything in scope once and keeps what is meant.
pub(super) fn gather(kafka: &Kafka, args: &RequeueArgs, now: DateTime<Utc>) -> anyhow::Result<Gathered> {
    let scope = Scope::of(kafka, &args.selectors.dlq, &args.selectors.group)?;
    let (ledger, positions) = read_ledger(kafka, Keep::Nothing, &Start::Oldest)?;
    warn_unreadable(&ledger);
    let meant = |letter: &Letter, state: State| {
        if args.ids.is_empty() {
            let unspecified = args.selectors.state.is_empty();
            return (!unspecified || state == State::Open) && args.selectors.matches(letter, state, now);
        }
        args.ids.iter().any(|prefix| prefix.matches(letter.id))
    };
    let (mut found, folded) = scan(kafka, &scope, &ledger, Found::default, |found, letter, state| {
        if state == State::Open {
            found.open.extend(OpenKey::of(&letter));
        }
        if meant(&letter, state) {
            found.letters.push((letter, state));
        }
    })?;
    let mut left_out = Vec::new();
    if !args.ids.is_empty() {
        let ids = resolve_all(&args.ids, &found.letters)?;
        found.letters.retain(|(letter, state)| {
            let kept = ids.contains(&letter.id);
            let matches = args.selectors.matches(letter, *state, now);
            if kept && !matches {
                left_out.push(LeftOut::new(letter.id, "it does not match the selectors given beside it"));
            }
            kept && matches
        });
    }
    let shown = found.letters.iter().map(|(letter, _)| letter.id);
    let id_len = short_len(&folded.ids, shown.chain(left_out.iter().map(|left| left.id)));
    Ok(Gathered { letters: found.letters, left_out, open: found.open, positions, id_len })
}

/// Refuses where a part of the ledger cannot be read: what was requeued before, or by others, may stand there.
pub(super) fn ledger_is_known(kafka: &Kafka, force: bool) -> Result<(), Problem> {
    match kafka.gaps().into_iter().find(|gap| gap.topic == ACTIONS_TOPIC) {
        Some(gap) if !force => Err(Problem::Refused(format!(
            "what was requeued before is not known: {gap}; --force requeues all the same"
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
                let what = format!("no dead letter's id begins with {prefix}; nothing was requeued");
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
