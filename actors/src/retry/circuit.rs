//! Systemic or poison: is it these events that fail, or everything?
//!
//! An event that fails on its own is retried a counted number of times and then dies. When most keys fail alike, it is
//! not the events: counting their attempts would turn an outage of somebody else into dead letters. The circuit of the
//! lane then opens: nothing counts, one probe at a time finds out when it is over. What the lanes of a process see, they see
//! together: the question is about what they all call. The idea is that of a circuit breaker
//! (Nygard, *Release It!*); what is ours is that it looks at distinct keys and at the fingerprint of the failure, so that
//! a single failing key, or a flood of different failures, never opens it.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::Instant,
};

use parking_lot::Mutex;

use crate::settings::CircuitSettings;

/// Keys remembered; more would not change the picture.
const KEYS: usize = 2_000;
/// Every so many probes a whole batch is tried: the one record at the front may fail on its own.
const WIDE_PROBE: u32 = 3;

/// What an attempt showed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Observation {
    /// Names the key of the state.
    pub(crate) key: u64,
    /// The fingerprint of the transient failure; `None` when the attempt ended otherwise.
    pub(crate) failed: Option<u64>,
}

/// Failures that are alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Systemic {
    pub(crate) fingerprint: u64,
    /// Keys that fail with it.
    pub(crate) failing: usize,
    /// Keys that were tried.
    pub(crate) tried: usize,
}

/// Recent attempts of all lanes, oldest first, beginning with a failure: without one there is nothing to tell. All clones
/// are one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sample(Arc<Mutex<VecDeque<(Instant, Observation)>>>);

/// The circuit of one lane.
#[derive(Debug)]
pub(crate) struct Circuit {
    settings: CircuitSettings,
    sample: Sample,
    open: Option<Open>,
}

#[derive(Clone, Copy, Debug)]
struct Open {
    fingerprint: u64,
    probes: u32,
}

impl Circuit {
    /// A closed one, of a lane that shares `sample` with the others.
    pub(crate) fn new(settings: CircuitSettings, sample: Sample) -> Self {
        Self { settings, sample, open: None }
    }

    pub(crate) fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// Failed probes since it opened.
    pub(crate) fn probes(&self) -> u32 {
        self.open.map_or(0, |open| open.probes)
    }

    /// Whether the next probe is to be a new record, where there is one, rather than one that waits: those that wait may all
    /// fail on their own.
    pub(crate) fn wants_fresh(&self) -> bool {
        self.open.is_some_and(|open| !open.probes.is_multiple_of(2))
    }

    /// How many records the next batch may hold: while open one, and every now and then `max`.
    pub(crate) fn limit(&self, max: usize) -> usize {
        match self.open {
            Some(open) if !(open.probes + 1).is_multiple_of(WIDE_PROBE) => 1.min(max),
            _ => max,
        }
    }

    /// Whether there is anything to observe in a batch without failures.
    pub(crate) fn is_quiet(&self) -> bool {
        self.open.is_none() && self.sample.0.lock().is_empty()
    }

    /// Whether a batch that showed `now_seen` must not be committed, since not its events are to blame.
    pub(crate) fn judge(&self, now_seen: &[Observation], now: Instant) -> Option<Systemic> {
        if let Some(open) = self.open {
            let alike = self.alike(now_seen.iter())?;
            // Of few keys one may fail on its own: only when all of them do is there nothing to be learnt.
            let most = match alike.tried >= self.settings.min_keys {
                true => alike.failing * 2 >= alike.tried,
                false => alike.failing == alike.tried,
            };
            let systemic = (alike.fingerprint == open.fingerprint && most).then_some(alike);
            if systemic.is_some() {
                self.note(now_seen, now);
            }
            return systemic;
        }
        if now_seen.iter().all(|one| one.failed.is_none()) {
            return None;
        }
        let window = self.settings.window;
        let alike = {
            let seen = self.sample.0.lock();
            let recent = seen.iter().filter(|(at, _)| now.duration_since(*at) <= window).map(|(_, one)| one);
            self.alike(recent.chain(now_seen))?
        };
        // Whatever others meet, a lane most of whose keys pass goes on.
        let here = self.alike(now_seen.iter())?;
        let here = here.fingerprint == alike.fingerprint && here.failing * 2 >= here.tried;
        let opens = here && alike.tried >= self.settings.min_keys && alike.failing * 2 >= alike.tried;
        if opens {
            // The others are to know, although nothing of it is committed.
            self.note(now_seen, now);
        }
        opens.then_some(alike)
    }

    fn note(&self, now_seen: &[Observation], now: Instant) {
        let mut seen = self.sample.0.lock();
        for one in now_seen {
            if one.failed.is_some() || !seen.is_empty() {
                seen.push_back((now, *one));
            }
        }
        while seen.len() > KEYS
            || seen.front().is_some_and(|(at, _)| now.duration_since(*at) > self.settings.window)
        {
            seen.pop_front();
        }
    }

    /// The failure that most keys have, by each key's latest attempt.
    fn alike<'a>(&self, seen: impl Iterator<Item = &'a Observation>) -> Option<Systemic> {
        let latest: HashMap<u64, Option<u64>> = seen.map(|one| (one.key, one.failed)).collect();
        let mut counts: HashMap<u64, usize> = HashMap::new();
        for fingerprint in latest.values().flatten() {
            *counts.entry(*fingerprint).or_default() += 1;
        }
        let (fingerprint, failing) =
            counts.into_iter().max_by_key(|(fingerprint, count)| (*count, *fingerprint))?;
        Some(Systemic { fingerprint, failing, tried: latest.len() })
    }

    /// A batch was not committed because of `systemic`. True when that opened the circuit.
    pub(crate) fn opened(&mut self, systemic: Systemic) -> bool {
        let newly = self.open.is_none();
        let probes = self.open.map_or(0, |open| open.probes + 1);
        self.open = Some(Open { fingerprint: systemic.fingerprint, probes });
        newly
    }

    /// A batch that showed `now_seen` was committed. True when that closed the circuit.
    pub(crate) fn committed(&mut self, now_seen: &[Observation], now: Instant) -> bool {
        if now_seen.is_empty() {
            // Nothing was tried: ignored records, duplicates.
            return false;
        }
        let closed = self.open.take();
        if let Some(Open { fingerprint, .. }) = closed {
            // It is over: what was seen of it says nothing of what comes.
            self.sample.0.lock().retain(|(_, one)| one.failed != Some(fingerprint));
        }
        self.note(now_seen, now);
        closed.is_some()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    const OUTAGE: u64 = 7;

    fn circuit() -> Circuit {
        of(Sample::default())
    }

    fn of(sample: Sample) -> Circuit {
        Circuit::new(CircuitSettings { min_keys: 20, window: Duration::from_secs(30) }, sample)
    }

    fn fails(keys: std::ops::Range<u64>) -> Vec<Observation> {
        keys.map(|key| Observation { key, failed: Some(OUTAGE) }).collect()
    }

    fn passes(keys: std::ops::Range<u64>) -> Vec<Observation> {
        keys.map(|key| Observation { key, failed: None }).collect()
    }

    #[test]
    fn it_opens_when_half_of_twenty_keys_fail_alike() {
        let (mut circuit, now) = (circuit(), Instant::now());
        assert_eq!(circuit.judge(&fails(0..19), now), None, "too few to tell");
        circuit.committed(&fails(0..19), now);
        let systemic = circuit.judge(&fails(19..20), now).expect("twenty keys in two batches");
        assert_eq!((systemic.failing, systemic.tried), (20, 20));
        assert!(circuit.opened(systemic) && circuit.is_open());

        let half = [fails(0..10), passes(10..20)].concat();
        assert!(self::circuit().judge(&half, now).is_some());
        let less = [fails(0..10), passes(10..21)].concat();
        assert!(self::circuit().judge(&less, now).is_none());
    }

    #[test]
    fn lanes_judge_together_and_one_whose_keys_pass_goes_on() {
        let sample = Sample::default();
        let (mut quiet, now) = (of(sample.clone()), Instant::now());
        for lane in 0..19 {
            let alone = fails(lane..lane + 1);
            let mut other = of(sample.clone());
            assert_eq!(other.judge(&alone, now), None, "too few to tell");
            other.committed(&alone, now);
        }
        let most_pass = [fails(20..21), passes(21..24)].concat();
        assert_eq!(quiet.judge(&most_pass, now), None);
        let systemic = quiet.judge(&fails(20..21), now).expect("twenty keys of twenty lanes");
        quiet.opened(systemic);
        assert!(of(sample.clone()).judge(&fails(21..22), now).is_some());
        // It passes here: what the others saw before says nothing any more.
        assert!(quiet.committed(&passes(20..21), now));
        assert_eq!(of(sample).judge(&fails(0..1), now), None);
    }

    #[test]
    fn one_key_or_failures_of_many_kinds_do_not_open_it() {
        let (mut circuit, now) = (circuit(), Instant::now());
        for _ in 0..100 {
            let batch = [fails(0..1), passes(1..2)].concat();
            assert_eq!(circuit.judge(&batch, now), None);
            circuit.committed(&batch, now);
        }
        let all_different: Vec<_> = (0..40).map(|key| Observation { key, failed: Some(key / 10) }).collect();
        assert_eq!(self::circuit().judge(&all_different, now), None);
    }

    #[test]
    fn what_is_long_past_does_not_count() {
        let (mut circuit, now) = (circuit(), Instant::now());
        circuit.committed(&fails(0..15), now);
        let later = now + Duration::from_secs(31);
        assert_eq!(circuit.judge(&fails(15..25), later), None);
    }

    #[test]
    fn a_probe_at_a_time_and_now_and_then_a_batch_close_it() {
        let (mut circuit, now) = (circuit(), Instant::now());
        assert_eq!(circuit.limit(500), 500);
        let systemic = circuit.judge(&fails(0..30), now).expect("all fail");
        circuit.opened(systemic);
        let limits: Vec<_> = (0..5)
            .map(|_| {
                let limit = circuit.limit(500);
                let again = circuit.judge(&fails(0..1), now).expect("still failing");
                assert!(!circuit.opened(again));
                limit
            })
            .collect();
        assert_eq!(limits, [1, 1, 500, 1, 1]);
        // The one at the front fails, and others do not: it is that one's own fault now.
        assert_eq!(circuit.judge(&[fails(0..1), passes(1..9)].concat(), now), None);
        assert!(circuit.committed(&[fails(0..1), passes(1..9)].concat(), now));
        assert!(!circuit.is_open());
    }

    #[test]
    fn one_that_fails_on_its_own_does_not_keep_it_open_once_another_passes() {
        let (mut circuit, now) = (circuit(), Instant::now());
        circuit.opened(Systemic { fingerprint: OUTAGE, failing: 20, tried: 20 });
        assert!(circuit.judge(&fails(0..3), now).is_some(), "all there is to try");
        assert_eq!(circuit.judge(&[fails(0..1), passes(1..2)].concat(), now), None);
        let kinds: Vec<_> = (0..4)
            .map(|_| {
                let fresh = circuit.wants_fresh();
                circuit.opened(Systemic { fingerprint: OUTAGE, failing: 1, tried: 1 });
                fresh
            })
            .collect();
        assert_eq!(kinds, [false, true, false, true]);
    }

    #[test]
    fn another_failure_or_another_outcome_ends_the_doubt() {
        let (mut circuit, now) = (circuit(), Instant::now());
        circuit.opened(Systemic { fingerprint: OUTAGE, failing: 20, tried: 20 });
        assert_eq!(circuit.judge(&passes(0..1), now), None);
        assert_eq!(circuit.judge(&[Observation { key: 1, failed: Some(8) }], now), None);
        assert_eq!(circuit.judge(&[], now), None);
        assert!(!circuit.committed(&[], now), "nothing was tried");
        assert!(circuit.is_open());
    }

    proptest! {
        #[test]
        fn it_opens_just_when_the_rule_says(
            batch in prop::collection::vec((0u64..40, prop::option::of(0u64..3)), 0..120),
        ) {
            let seen: Vec<_> = batch.iter().map(|(key, failed)| Observation { key: *key, failed: *failed }).collect();
            let latest: HashMap<_, _> = batch.iter().copied().collect();
            let most = (0..3).map(|f| latest.values().filter(|v| **v == Some(f)).count()).max().unwrap_or(0);
            let expected = latest.len() >= 20 && most * 2 >= latest.len() && most > 0;
            prop_assert_eq!(circuit().judge(&seen, Instant::now()).is_some(), expected);
        }
    }
}
