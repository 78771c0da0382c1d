//! Reading letters, the ledger and single records from Kafka.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, mpsc},
    thread,
};

use dead_letters::{ACTIONS_TOPIC, Headers, group_of};

use anyhow::anyhow;

use super::{Fold, Folded, Keep, Ledger, Letter, Place, State};
use crate::{
    exit::Problem,
    kafka::{Kafka, Start},
};

/// Topics read side by side: each costs a client and its buffers.
const PARALLEL: usize = 4;

/// The dead-letter topics to look into.
#[derive(Clone, Debug)]
pub struct Scope {
    topics: Vec<Arc<str>>,
}

impl Scope {
    /// The topics named in `dlq`, or those of `groups`, or all. A name that does not exist is a usage error.
    pub fn of(kafka: &Kafka, dlq: &[String], groups: &[String]) -> Result<Self, Problem> {
        let known: BTreeSet<&str> = kafka.dlq_topics().collect();
        let listed = || match known.len() {
            0 => "there are none".to_owned(),
            _ => format!("there are: {}", known.iter().copied().collect::<Vec<_>>().join(", ")),
        };
        if let Some(name) = dlq.iter().find(|name| !known.contains(name.as_str())) {
            return Err(Problem::Usage(format!("no dead-letter topic {name}; {}", listed())));
        }
        if let Some(group) = groups.iter().find(|group| !known.iter().any(|t| group_of(t) == Some(group))) {
            return Err(Problem::Usage(format!("no dead-letter topic of group {group}; {}", listed())));
        }
        let within = |topic: &str| {
            (dlq.is_empty() || dlq.iter().any(|name| name == topic))
                && (groups.is_empty() || groups.iter().any(|group| group_of(topic) == Some(group)))
        };
        Ok(Self { topics: known.into_iter().filter(|topic| within(topic)).map(Arc::from).collect() })
    }

    /// Their names.
    pub fn topics(&self) -> &[Arc<str>] {
        &self.topics
    }
}

/// Reads the ledger from `start` to its end; also gives where it ended. A cluster without a ledger has an empty one.
pub fn read_ledger(kafka: &Kafka, keep: Keep, start: &Start) -> anyhow::Result<(Ledger, BTreeMap<i32, i64>)> {
    let mut ledger = Ledger::new(keep);
    if kafka.partitions(ACTIONS_TOPIC).is_none() {
        return Ok((ledger, BTreeMap::new()));
    }
    let mut reader = kafka.reader(ACTIONS_TOPIC, start)?;
    reader.to_end(|raw| {
        ledger.read(raw.partition, raw.offset, raw.value);
        true
    })?;
    Ok((ledger, reader.positions().clone()))
}

/// Hands every letter in scope, twins collapsed, with its state to `visit`, which collects into a `C`.
///
/// When a letter turns out to have died again after it was handed over, and the ledger does not say so yet, everything
/// is read once more into a new `C`: that keeps the memory bounded and the states right.
pub fn scan<C>(
    kafka: &Kafka,
    scope: &Scope,
    ledger: &Ledger,
    make: impl Fn() -> C,
    mut visit: impl FnMut(&mut C, Letter, State),
) -> anyhow::Result<(C, Folded)> {
    let mut collected = make();
    let folded =
        pass(kafka, scope, ledger, Fold::default(), |letter, state| visit(&mut collected, letter, state))?;
    if !folded.late {
        return Ok((collected, folded));
    }
    let mut collected = make();
    let fold = Fold::knowing(folded.superseded);
    let folded = pass(kafka, scope, ledger, fold, |letter, state| visit(&mut collected, letter, state))?;
    Ok((collected, folded))
}

/// Hands every letter in scope, twins collapsed, to `visit`, whatever became of it.
pub fn scan_letters(kafka: &Kafka, scope: &Scope, mut visit: impl FnMut(Letter)) -> anyhow::Result<Folded> {
    pass(kafka, scope, &Ledger::default(), Fold::default(), |letter, _| visit(letter))
}

fn pass(
    kafka: &Kafka,
    scope: &Scope,
    ledger: &Ledger,
    mut fold: Fold,
    mut visit: impl FnMut(Letter, State),
) -> anyhow::Result<Folded> {
    for topics in scope.topics().chunks(PARALLEL) {
        thread::scope(|scope| {
            let (sender, letters) = mpsc::sync_channel(1_000);
            let mut threads = Vec::new();
            for topic in topics {
                let sender = sender.clone();
                threads.push(scope.spawn(move || {
                    let mut reader = kafka.reader(topic, &Start::Oldest)?;
                    reader.to_end(|raw| sender.send(Letter::read(topic, raw)).is_ok())
                }));
            }
            drop(sender);
            for letter in letters {
                if let Some(state) = fold.admit(&letter, ledger) {
                    visit(letter, state);
                }
            }
            threads.into_iter().try_for_each(|thread| {
                thread.join().unwrap_or_else(|_| Err(anyhow!("reading a topic panicked")))
            })
        })?;
    }
    Ok(fold.finish())
}

/// A record with its body.
#[derive(Clone, Debug)]
pub struct Fetched {
    /// The key.
    pub key: Option<Vec<u8>>,
    /// The body; `None` is a tombstone.
    pub value: Option<Vec<u8>>,
    /// The headers.
    pub headers: Headers,
}

/// Reads the records at `places`; one that retention has deleted meanwhile is missing from the answer.
pub fn fetch(kafka: &Kafka, places: &[Place]) -> anyhow::Result<BTreeMap<Place, Fetched>> {
    let mut wanted: BTreeMap<&Arc<str>, BTreeSet<(i32, i64)>> = BTreeMap::new();
    for place in places {
        wanted.entry(&place.topic).or_default().insert((place.partition, place.offset));
    }
    let mut found = BTreeMap::new();
    for (topic, mut places) in wanted {
        let mut start: BTreeMap<i32, (i64, i64)> = BTreeMap::new();
        for (partition, offset) in &places {
            start.entry(*partition).or_insert((*offset, *offset)).1 = *offset;
        }
        kafka.reader(topic, &Start::Only(start))?.to_end(|raw| {
            if places.remove(&(raw.partition, raw.offset)) {
                let place = Place { topic: topic.clone(), partition: raw.partition, offset: raw.offset };
                let record = Fetched {
                    key: raw.key.map(<[u8]>::to_vec),
                    value: raw.value.map(<[u8]>::to_vec),
                    headers: raw.headers.clone(),
                };
                found.insert(place, record);
            }
            !places.is_empty()
        })?;
    }
    Ok(found)
}
