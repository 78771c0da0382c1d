//! Folding a batch must be the same as handling its events one by one.

use std::collections::{BTreeMap, HashMap};

use dead_letters::{Headers, Offset, TopicPartition};
use deadpool_postgres::GenericClient;
use proptest::prelude::*;

use super::*;
use crate::{
    event::{Attempt, Decoded, Event},
    failure::Rejection,
    handler::{LoadResult, Lock, SaveResult},
    lane::{CrashLimits, Lane, LaneKind},
    record::Record,
    retry::ParkedRecord,
};

/// Sums numbers, and fails as it is told.
struct Sums;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Add,
    Refuse,
    Fail,
    Nothing,
    Delete,
}

#[derive(Clone, Copy, Debug)]
struct Planned {
    id: u128,
    key: u8,
    n: i64,
    mode: Mode,
}

impl Handler for Sums {
    type Body = Planned;
    type Key = u8;
    type State = i64;
    /// How many were added, over all keys.
    type Shared = i64;
    type Prepared = ();

    fn name(&self) -> &'static str {
        "sums"
    }

    fn decode(&self, record: &Record) -> Result<Decoded<Planned>, Rejection> {
        let value = record.value.as_deref().expect("a value");
        let body = Planned {
            id: u128::from(value[0]),
            key: value[1],
            n: i64::from(value[2]),
            mode: [Mode::Add, Mode::Refuse, Mode::Fail, Mode::Nothing, Mode::Delete][usize::from(value[3])],
        };
        let (id, event_type) = (Uuid::from_u128(body.id), "SUM".to_owned());
        Ok(Decoded::Event(Event { id, event_type, correlation_id: String::new(), body }))
    }

    fn key(&self, body: &Planned) -> u8 {
        body.key
    }

    async fn load<C: GenericClient>(&self, _: &C, _: &[u8], _: Lock) -> LoadResult<Self> {
        unreachable!("states are given")
    }

    fn decide(
        &self,
        _: &Attempt,
        body: &Planned,
        state: Option<&i64>,
        added: &mut i64,
        _: Option<&()>,
    ) -> Result<Decision<i64>, Failure> {
        match body.mode {
            Mode::Refuse => return Err(Failure::permanent("refused", "never")),
            Mode::Fail => return Err(Failure::transient("failed", "not now")),
            Mode::Nothing => return Ok(Decision::nothing()),
            Mode::Delete => return Ok(Decision::delete()),
            Mode::Add => {}
        }
        *added += 1;
        // Depends on what came before, so that order matters.
        let sum = state.copied().unwrap_or(1).wrapping_mul(3) + body.n;
        let emit = Emit {
            topic: "t".into(),
            key: None,
            value: Some(sum.to_be_bytes().into()),
            headers: Headers::new(),
        };
        Ok(Decision { state: Change::Save(sum), emit: vec![emit], ..Decision::nothing() })
    }

    async fn save<C: GenericClient>(&self, _: &C, _: Vec<(u8, i64)>, _: i64) -> SaveResult<Self> {
        unreachable!("nothing is saved")
    }
}

fn slot(planned: &Planned, offset: i64, now: DateTime<Utc>) -> Slot<Sums> {
    let n = u8::try_from(planned.n).expect("small");
    let id = u8::try_from(planned.id).expect("small");
    let record = Record {
        source: TopicPartition::new("t", 0),
        offset: Offset(offset),
        timestamp_ms: 0,
        key: Some(Box::new([planned.key])),
        value: Some(Box::new([id, planned.key, n, planned.mode as u8])),
        headers: Headers::new(),
    };
    let item =
        Item { record: std::sync::Arc::new(record), gap: 0, parked: None, diagnosis: Default::default() };
    Slot::decode(&Sums, item, now)
}

/// The kind of a outcome: the time of a next attempt has jitter.
fn kind(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Again(cause, ..) => format!("again {cause}"),
        other => format!("{other:?}"),
    }
}

type Folded = (Vec<String>, BTreeMap<u8, i64>, i64, Vec<Emit>);

fn folded(events: &[Planned], now: DateTime<Utc>) -> Folded {
    let mut slots: Vec<_> = (0..).zip(events).map(|(at, event)| slot(event, at, now)).collect();
    let loaded = Loaded::new(HashMap::new(), 0);
    let decided = decide(&Sums, &RetryPolicy::default(), &mut slots, loaded, now);
    let decided = decided.expect("nothing is unreachable");
    let fates = slots.iter().map(|slot| kind(&slot.outcome)).collect();
    let states = decided.changed.into_iter().filter_map(|(key, state)| Some((key, state?))).collect();
    (fates, states, decided.shared, decided.emits.concat())
}

fn one_by_one(events: &[Planned], now: DateTime<Utc>) -> Folded {
    let (mut fates, mut states, mut shared, mut emits) = (Vec::new(), BTreeMap::new(), 0, Vec::new());
    // What the inbox and the chains say between batches of one.
    let (mut inbox, mut chained): (HashMap<u128, Outcome>, Vec<u8>) = Default::default();
    for (at, event) in (0..).zip(events) {
        if chained.contains(&event.key) {
            fates.push(kind(&Outcome::Behind));
            continue;
        }
        if let Some(before) = inbox.get(&event.id) {
            let outcome =
                if matches!(before, Outcome::Dead(..)) { Outcome::DeadAlready } else { Outcome::Duplicate };
            fates.push(kind(&outcome));
            continue;
        }
        let mut slots = [slot(event, at, now)];
        let loaded = Loaded::new(states.clone().into_iter().collect(), shared);
        let decided = decide(&Sums, &RetryPolicy::default(), &mut slots, loaded, now);
        let decided = decided.expect("nothing is unreachable");
        let [slot] = slots;
        if matches!(slot.outcome, Outcome::Again(..)) {
            chained.push(event.key);
        } else {
            inbox.insert(event.id, slot.outcome.clone());
        }
        fates.push(kind(&slot.outcome));
        for (key, state) in decided.changed {
            match state {
                Some(state) => drop(states.insert(key, state)),
                None => drop(states.remove(&key)),
            }
        }
        shared = decided.shared;
        emits.extend(decided.emits.concat());
    }
    (fates, states, shared, emits)
}

/// A record that has failed `attempts` times, first at `since`, and was to run `after` that.
fn failed_before(attempts: u32, since: DateTime<Utc>, after: i64) -> Item {
    let record = slot(&Planned { id: 1, key: 1, n: 1, mode: Mode::Fail }, 0, since).item.record;
    let limits = CrashLimits { actors: 3, processes: 5 };
    let lane = Lane::new(record.source.clone(), LaneKind::Source, limits, Default::default());
    let row = ParkedRecord {
        id: 1,
        record: (*record).clone(),
        generation: 1,
        requeued_from: None,
        attempts,
        crashes: 0,
        first_failed_at: Some(since),
        due_at: since + chrono::Duration::seconds(after),
        downtime: Duration::from_secs(100),
        cause: Cause::new("refused", "not now"),
        dead_letter: None,
    };
    lane.take_parked(vec![row]).remove(0)
}

#[test]
fn retries_end_by_time_and_time_in_which_it_was_due_and_nobody_ran_it_does_not_count() {
    let policy = RetryPolicy { deadline: Duration::from_secs(60), ..RetryPolicy::default() };
    let since = Utc::now();
    let outcome = |item: &Item, seconds, failure: fn(&'static str, &'static str) -> Failure| {
        let now = since + chrono::Duration::seconds(seconds);
        match after_failure(&policy, item, true, failure("code", "why"), now) {
            Outcome::Again(_, due_at, tally) => Ok((tally, (due_at - now).num_milliseconds())),
            Outcome::Dead(class, _) => Err(class),
            other => panic!("{other:?}"),
        }
    };
    // Of 159 seconds a hundred did not count.
    let item = failed_before(1_000, since, 159);
    assert!(matches!(outcome(&item, 159, Failure::transient), Ok((Tally::Failed, 30_000..=60_000))));
    // An hour in which the process was gone.
    assert!(outcome(&item, 3_600, Failure::transient).is_ok());
    let item = failed_before(1_000, since, 160);
    assert_eq!(outcome(&item, 160, Failure::transient), Err(Class::Exhausted));
    // Of what is never given up the attempts count, and that is all.
    let now = since + chrono::Duration::seconds(160);
    let kept = after_failure(&policy, &item, false, Failure::transient("code", "why"), now);
    assert!(matches!(kept, Outcome::Again(_, _, Tally::Failed)), "{kept:?}");
    // What waits for something else is not counted, however long.
    assert!(matches!(
        outcome(&failed_before(5, since, 3_600), 3_600, Failure::not_yet),
        Ok((Tally::NotYet, 40_000..=60_000))
    ));
    assert!(matches!(outcome(&item, 3_600, Failure::unreachable), Ok((Tally::Unreachable, 1..=3_000))));
    // Its own time begins with its first own failure.
    assert!(outcome(&failed_before(0, since, 3_600), 3_600, Failure::transient).is_ok());
}

proptest! {
    #[test]
    fn a_batch_does_what_its_events_do_one_by_one(
        events in prop::collection::vec((0u8..4, 0i64..100, 0usize..10, any::<bool>()), 0..60),
    ) {
        let mut planned: Vec<Planned> = Vec::new();
        for (id, (key, n, mode, twice)) in (1u128..).zip(events) {
            let mode = match mode {
                0 => Mode::Refuse,
                1 => Mode::Fail,
                2 => Mode::Nothing,
                3 => Mode::Delete,
                _ => Mode::Add,
            };
            let event = Planned { id, key, n, mode };
            planned.push(event);
            if twice {
                planned.push(event);
            }
        }
        let now = Utc::now();
        prop_assert_eq!(folded(&planned, now), one_by_one(&planned, now));
    }
}
