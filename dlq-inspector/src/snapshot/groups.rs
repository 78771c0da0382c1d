//! Letters that died alike.

use std::{
    collections::{HashMap, HashSet},
    hash::{DefaultHasher, Hash, Hasher},
};

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::{Ledger, Letter, State, Tried};

/// Earlier generations of a letter whose deaths are looked for.
const GENERATIONS: u32 = 50;

/// What letters alike have in common.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Kind {
    /// `None` of foreign records.
    fingerprint: Option<String>,
    group: String,
    build: Option<String>,
}

/// Letters that died alike: of one fingerprint, in one consumer group, given up by one build.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alike {
    /// How many.
    pub letters: u64,
    /// Different keys among them.
    pub keys: usize,
    /// When the first of their records died: of one that was put back and died again its first death, where that is still kept.
    pub first: DateTime<Utc>,
    /// When the last one died.
    pub last: DateTime<Utc>,
    /// When one of this fingerprint and group was last put back, whatever its build, and what became of it.
    pub tried: Option<Tried>,
    /// The newest.
    pub sample: Letter,
}

#[derive(Debug)]
struct Row {
    alike: Alike,
    keys: HashSet<u64>,
    /// What its letters were before they died again.
    ancestors: Vec<Uuid>,
}

/// Puts letters together as they are read.
#[derive(Debug, Default)]
pub struct Groups {
    rows: HashMap<Kind, Row>,
    /// By fingerprint and group.
    tried: HashMap<(Option<String>, String), Tried>,
    /// When those died that have died again since.
    deaths: HashMap<Uuid, DateTime<Utc>>,
}

/// What comes first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Sort {
    /// Those with the most letters.
    #[default]
    Largest,
    /// Those of which one died last.
    Newest,
}

impl Groups {
    /// Takes in a letter, counted or not.
    pub fn add(&mut self, letter: Letter, state: State, ledger: &Ledger, counted: bool) {
        if state == State::DeadAgain {
            self.deaths.insert(letter.id, letter.failed_at());
        }
        if let Some(tried) = ledger.tried(letter.id) {
            let of = (letter.fingerprint().map(str::to_owned), letter.group().to_owned());
            let last = self.tried.entry(of).or_insert(tried);
            if tried.at_ms > last.at_ms {
                *last = tried;
            }
        }
        if counted {
            self.count(letter);
        }
    }

    fn count(&mut self, letter: Letter) {
        let (at, dead) = (letter.failed_at(), letter.dead());
        let kind = Kind {
            fingerprint: letter.fingerprint().map(str::to_owned),
            group: letter.group().to_owned(),
            build: dead.map(|dead| dead.build.clone()),
        };
        let earlier =
            dead.map_or(1..1, |dead| dead.generation.saturating_sub(GENERATIONS).max(1)..dead.generation);
        let ancestors: Vec<_> =
            earlier.filter_map(|generation| Some(letter.dead()?.id_in(generation))).collect();
        let key = letter.key.as_deref().map(|key| {
            let mut hasher = DefaultHasher::new();
            key.hash(&mut hasher);
            hasher.finish()
        });
        let row = self.rows.entry(kind).or_insert_with(|| Row {
            alike: Alike { letters: 0, keys: 0, first: at, last: at, tried: None, sample: letter.clone() },
            keys: HashSet::new(),
            ancestors: Vec::new(),
        });
        row.alike.letters += 1;
        row.alike.first = row.alike.first.min(at);
        if (at, letter.id) > (row.alike.last, row.alike.sample.id) {
            row.alike.last = at;
            row.alike.sample = letter;
        }
        row.keys.extend(key);
        row.ancestors.extend(ancestors);
    }

    /// Those that hold a letter that counts, the first first.
    pub fn finish(self, sort: Sort) -> Vec<Alike> {
        let Self { rows, tried, deaths } = self;
        let settle = |(kind, row): (Kind, Row)| {
            let Row { mut alike, keys, ancestors } = row;
            alike.keys = keys.len();
            let first = ancestors.iter().filter_map(|id| deaths.get(id)).copied().min();
            alike.first = first.map_or(alike.first, |first| first.min(alike.first));
            alike.tried = tried.get(&(kind.fingerprint, kind.group)).copied();
            alike
        };
        let mut all: Vec<_> = rows.into_iter().map(settle).collect();
        all.sort_by(|a, b| {
            let (newer, larger) = (b.last.cmp(&a.last), b.letters.cmp(&a.letters));
            let order = match sort {
                Sort::Largest => larger.then(newer),
                Sort::Newest => newer.then(larger),
            };
            order.then(a.sample.id.cmp(&b.sample.id))
        });
        all
    }
}

#[cfg(test)]
mod tests {
    use dead_letters::{Action, DeadLetter, Entry, RequeueOutcome};

    use super::*;
    use crate::{
        snapshot::{About, tests::dead},
        time::from_ms,
    };

    fn with(offset: i64, generation: u32, change: impl FnOnce(&mut DeadLetter)) -> Letter {
        let mut letter = dead(offset, generation);
        if let About::Dead(dead) = &mut letter.about {
            change(dead);
        }
        letter
    }

    fn entry(id: Uuid, action: Action) -> Entry {
        Entry {
            dlq_id: id,
            group: "g".into(),
            action,
            at: from_ms(7),
            by: "me".into(),
            job: None,
            reason: None,
        }
    }

    #[test]
    fn letters_are_alike_by_fingerprint_build_and_group() {
        let mut groups = Groups::default();
        let none = Ledger::default();
        groups.add(dead(5, 1), State::Open, &none, true);
        groups.add(dead(9, 1), State::Open, &none, true);
        groups.add(dead(2, 1), State::Open, &none, true);
        groups.add(with(20, 1, |letter| letter.build = "2".into()), State::Open, &none, true);
        groups.add(with(3, 1, |letter| letter.group = "h".into()), State::Open, &none, true);
        groups.add(with(4, 1, |letter| letter.fingerprint = "1".into()), State::Open, &none, true);
        groups.add(dead(1, 1), State::Resolved, &none, false);
        let all = groups.finish(Sort::Largest);
        let counts: Vec<_> = all.iter().map(|alike| (alike.letters, alike.last)).collect();
        assert_eq!(
            counts,
            [(3, from_ms(9_000)), (1, from_ms(20_000)), (1, from_ms(4_000)), (1, from_ms(3_000))]
        );
        assert_eq!((all[0].keys, all[0].first, all[0].sample.id), (1, from_ms(2_000), dead(9, 1).id));
        assert_eq!(all[0].tried, None);
    }

    #[test]
    fn the_newest_come_first_when_they_are_asked_for() {
        let mut groups = Groups::default();
        let none = Ledger::default();
        groups.add(dead(1, 1), State::Open, &none, true);
        groups.add(dead(2, 1), State::Open, &none, true);
        groups.add(with(9, 1, |letter| letter.build = "2".into()), State::Open, &none, true);
        let counts: Vec<_> = groups.finish(Sort::Newest).iter().map(|alike| alike.letters).collect();
        assert_eq!(counts, [1, 2]);
    }

    #[test]
    fn since_when_goes_by_the_first_death_and_the_last_try_is_known() {
        let (first, second) = (dead(1, 1), with(1, 2, |letter| letter.failed_at = from_ms(60_000)));
        let mut ledger = Ledger::default();
        ledger.add(0, 0, entry(first.id, Action::Requeue { generation: 2 }));
        let again = Action::Outcome { generation: 2, outcome: RequeueOutcome::DeadAgain };
        ledger.add(0, 1, entry(first.id, again));
        for turned in [false, true] {
            let mut both = [(first.clone(), State::DeadAgain, false), (second.clone(), State::Open, true)];
            if turned {
                both.reverse();
            }
            let mut groups = Groups::default();
            for (letter, state, counted) in both {
                groups.add(letter, state, &ledger, counted);
            }
            let [alike] = &groups.finish(Sort::Largest)[..] else { panic!("one") };
            assert_eq!((alike.first, alike.last), (from_ms(1_000), from_ms(60_000)));
            assert_eq!(alike.tried, Some(Tried { at_ms: 7, outcome: Some(RequeueOutcome::DeadAgain) }));
        }
    }
}
