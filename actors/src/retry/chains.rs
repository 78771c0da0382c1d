//! Which keys of a lane have records waiting, in memory: the gate that keeps their order.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};

use chrono::{DateTime, Utc};

/// What orders waiting records: their key, or nothing at all.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum ChainKey {
    /// Records of one key run one after the other.
    Key(Box<[u8]>),
    /// A record without a key waits for nobody.
    Alone(i64),
}

impl ChainKey {
    /// The chain of a waiting record.
    pub(crate) fn of(key: Option<&[u8]>, id: i64) -> Self {
        key.map_or(Self::Alone(id), |key| Self::Key(key.into()))
    }
}

/// A waiting record's row and when it may run, once it is at the head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Waiting {
    id: i64,
    due_at: DateTime<Utc>,
    /// Bytes it will take in memory.
    size: usize,
}

/// The waiting records of a lane by key. Only heads become due; a follower runs after its head has ended.
#[derive(Debug)]
pub(crate) struct Chains {
    chains: HashMap<ChainKey, VecDeque<Waiting>>,
    heads: BTreeSet<(DateTime<Utc>, i64, ChainKey)>,
    /// When each row is due.
    due: HashMap<i64, DateTime<Utc>>,
    /// Rows behind this one are in the table and not here: more wait than are held in memory.
    beyond: Option<i64>,
    /// A chain this long, or longer, is full.
    chain_max: usize,
    full: usize,
}

impl Chains {
    /// None waiting; a key with `chain_max` records is full.
    pub(crate) fn new(chain_max: usize) -> Self {
        Self {
            chains: HashMap::new(),
            heads: BTreeSet::new(),
            due: HashMap::new(),
            beyond: None,
            chain_max: chain_max.max(1),
            full: 0,
        }
    }

    /// Whether some key has as many records waiting as one may.
    pub(crate) fn has_full(&self) -> bool {
        self.full > 0
    }

    /// Records waiting, as far as they are held here.
    pub(crate) fn len(&self) -> usize {
        self.due.len()
    }

    /// The last row that is held here, where the table has more: those behind it are not known.
    pub(crate) fn beyond(&self) -> Option<i64> {
        self.beyond
    }

    /// Says from where on rows are not known.
    pub(crate) fn set_beyond(&mut self, last: Option<i64>) {
        self.beyond = last;
    }

    /// When a row is due, if it is known.
    pub(crate) fn due_at(&self, id: i64) -> Option<DateTime<Utc>> {
        self.due.get(&id).copied()
    }

    /// True when a record of this key has to wait behind others.
    pub(crate) fn holds(&self, key: &[u8]) -> bool {
        // Borrowing a `ChainKey` from a slice is not possible; most lanes hold nothing and never allocate here.
        !self.chains.is_empty() && self.chains.contains_key(&ChainKey::Key(key.into()))
    }

    /// Adds a record to its chain, in order of the ids, unless it is there.
    pub(crate) fn push(&mut self, key: ChainKey, id: i64, due_at: DateTime<Utc>, size: usize) {
        if self.due.insert(id, due_at).is_some() {
            return self.delay(&key, id, due_at);
        }
        let chain = self.chains.entry(key.clone()).or_default();
        // Nearly always the end: ids rise, but transactions of other lanes may end in another order.
        let at = chain.iter().rposition(|waiting| waiting.id < id).map_or(0, |before| before + 1);
        if at == 0 {
            if let Some(head) = chain.front() {
                self.heads.remove(&(head.due_at, head.id, key.clone()));
            }
            self.heads.insert((due_at, id, key));
        }
        chain.insert(at, Waiting { id, due_at, size });
        self.full += usize::from(chain.len() == self.chain_max);
    }

    /// Takes a record out, wherever in its chain it stands; its successor becomes the head.
    pub(crate) fn remove(&mut self, key: &ChainKey, id: i64) {
        let Some(chain) = self.chains.get_mut(key) else { return };
        let Some(at) = chain.iter().position(|waiting| waiting.id == id) else { return };
        let gone = chain.remove(at);
        self.full -= usize::from(chain.len() + 1 == self.chain_max);
        self.due.remove(&id);
        if at == 0 {
            if let Some(gone) = gone {
                self.heads.remove(&(gone.due_at, gone.id, key.clone()));
            }
            if let Some(head) = chain.front() {
                self.heads.insert((head.due_at, head.id, key.clone()));
            }
        }
        if chain.is_empty() {
            self.chains.remove(key);
        }
    }

    /// Moves a record's time.
    pub(crate) fn delay(&mut self, key: &ChainKey, id: i64, due_at: DateTime<Utc>) {
        let Some(chain) = self.chains.get_mut(key) else { return };
        let Some(at) = chain.iter().position(|waiting| waiting.id == id) else { return };
        if at == 0 {
            self.heads.remove(&(chain[0].due_at, id, key.clone()));
            self.heads.insert((due_at, id, key.clone()));
        }
        chain[at].due_at = due_at;
        self.due.insert(id, due_at);
    }

    /// When the next head is due.
    pub(crate) fn next_due(&self) -> Option<DateTime<Utc>> {
        self.heads.first().map(|(due_at, ..)| *due_at)
    }

    /// Rows to run now, at most `limit` or `max_bytes` (at least one), of the chains whose head is due: all heads first, then
    /// all second ones and so on, so that one long chain takes no other's place, and followers run as soon as those before
    /// them have succeeded.
    pub(crate) fn due(&self, now: DateTime<Utc>, limit: usize, max_bytes: usize) -> Vec<i64> {
        let heads = self.heads.iter().take_while(|(due_at, ..)| *due_at <= now);
        let chains: Vec<_> = heads.take(limit).map(|(_, _, key)| &self.chains[key]).collect();
        let longest = chains.iter().map(|chain| chain.len()).max().unwrap_or(0);
        let mut bytes = 0usize;
        (0..longest)
            .flat_map(|nth| chains.iter().filter_map(move |chain| chain.get(nth)))
            .take(limit)
            .take_while(|waiting| {
                let first = bytes == 0;
                bytes = bytes.saturating_add(waiting.size.max(1));
                first || bytes <= max_bytes
            })
            .map(|waiting| waiting.id)
            .collect()
    }

    /// Those `among` some rows that could run now, in order: of each chain whose head is due the first ones, as long as they
    /// are all among them.
    pub(crate) fn due_among(&self, now: DateTime<Utc>, among: &HashSet<i64>) -> Vec<i64> {
        let heads = self.heads.iter().take_while(|(due_at, ..)| *due_at <= now);
        let of_chain = |key| self.chains[key].iter().take_while(|waiting| among.contains(&waiting.id));
        heads.flat_map(|(_, _, key)| of_chain(key)).map(|waiting| waiting.id).collect()
    }

    /// Whether this row could run now.
    pub(crate) fn is_due(&self, id: i64, now: DateTime<Utc>) -> bool {
        self.heads.iter().take_while(|(due_at, ..)| *due_at <= now).any(|(_, head, _)| *head == id)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(second: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(second, 0).expect("in range")
    }

    fn key(name: &str) -> ChainKey {
        ChainKey::of(Some(name.as_bytes()), 0)
    }

    #[test]
    fn followers_wait_for_their_head_however_early_they_are_due() {
        let mut chains = Chains::new(100);
        chains.push(key("a"), 1, at(10), 1);
        chains.push(key("a"), 2, at(0), 1);
        chains.push(key("b"), 3, at(5), 1);
        assert!(chains.holds(b"a") && !chains.holds(b"c"));
        assert!(chains.due(at(4), 10, usize::MAX).is_empty());
        assert_eq!(chains.due(at(5), 10, usize::MAX), [3]);
        assert_eq!(chains.due(at(10), 10, usize::MAX), [3, 1, 2]);
        assert_eq!(chains.due(at(10), 2, usize::MAX), [3, 1]);
        chains.delay(&key("a"), 1, at(20));
        assert_eq!(chains.due(at(10), 10, usize::MAX), [3]);
        chains.remove(&key("a"), 1);
        assert_eq!(chains.next_due(), Some(at(0)), "the follower is the head now");
        assert_eq!(chains.due(at(0), 10, usize::MAX), [2]);
        chains.remove(&key("a"), 2);
        assert!(!chains.holds(b"a"));
        assert_eq!(chains.len(), 1);
    }

    #[test]
    fn heads_come_before_second_ones_and_a_late_arrival_takes_its_place() {
        let mut chains = Chains::new(100);
        for (name, id) in [("a", 2), ("a", 3), ("a", 4), ("b", 5), ("b", 6)] {
            chains.push(key(name), id, at(id), 1);
        }
        assert_eq!(chains.due(at(9), 10, usize::MAX), [2, 5, 3, 6, 4]);
        assert_eq!(chains.due(at(9), 2, usize::MAX), [2, 5]);
        // Its transaction ended after those of later ids.
        chains.push(key("b"), 1, at(7), 1);
        chains.push(key("b"), 1, at(8), 1);
        assert_eq!(chains.due(at(9), 10, usize::MAX), [2, 1, 3, 5, 4, 6]);
        assert_eq!((chains.len(), chains.due_at(1), chains.due_at(9)), (6, Some(at(8)), None));
    }

    #[test]
    fn what_runs_together_is_bounded_by_bytes_but_never_nothing() {
        let mut chains = Chains::new(100);
        for id in 1..=3 {
            chains.push(key("a"), id, at(0), 40);
        }
        assert_eq!(chains.due(at(0), 10, 100), [1, 2]);
        assert_eq!(chains.due(at(0), 10, 1), [1]);
        assert!(chains.is_due(1, at(0)) && !chains.is_due(2, at(0)));
    }

    #[test]
    fn a_full_chain_shows_until_it_is_shorter() {
        let mut chains = Chains::new(2);
        for id in 1..=3 {
            chains.push(key("a"), id, at(0), 1);
            assert_eq!(chains.has_full(), id >= 2);
        }
        chains.remove(&key("a"), 2);
        assert!(chains.has_full());
        chains.remove(&key("a"), 1);
        assert!(!chains.has_full());
    }

    proptest! {
        /// Whatever happens to the rows: what is due begins with the head of a chain, keeps each chain's order, and agrees
        /// with a model that looks through a plain list.
        #[test]
        fn due_is_what_a_plain_list_says(
            steps in prop::collection::vec((0u8..4, 0usize..6, 0i64..20), 1..80),
            now in 0i64..20,
        ) {
            let mut chains = Chains::new(3);
            let mut model: Vec<(String, i64, i64)> = Vec::new();
            for (id, (what, which, time)) in (1i64..).zip(steps) {
                let name = format!("key-{}", which % 3);
                match (what, model.get(which).cloned()) {
                    (0, Some((name, id, _))) => {
                        chains.remove(&key(&name), id);
                        model.retain(|row| row.1 != id);
                    }
                    (1, Some((name, id, _))) => {
                        chains.delay(&key(&name), id, at(time));
                        model.iter_mut().filter(|row| row.1 == id).for_each(|row| row.2 = time);
                    }
                    _ => {
                        chains.push(key(&name), id, at(time), 1);
                        model.push((name, id, time));
                    }
                }
            }
            let chain = |name: &str| model.iter().filter(|row| row.0 == name).cloned().collect::<Vec<_>>();
            let mut expected = Vec::new();
            for name in ["key-0", "key-1", "key-2"] {
                let chain = chain(name);
                prop_assert_eq!(chains.holds(name.as_bytes()), !chain.is_empty());
                if chain.first().is_some_and(|head| head.2 <= now) {
                    expected.push(chain.iter().map(|row| row.1).collect::<Vec<_>>());
                }
            }
            expected.sort_by_key(|ids| {
                let head = model.iter().find(|row| row.1 == ids[0]).expect("in the model");
                (head.2, head.1)
            });
            let longest = expected.iter().map(Vec::len).max().unwrap_or(0);
            let levels = (0..longest).flat_map(|nth| expected.iter().filter_map(move |chain| chain.get(nth).copied()));
            prop_assert_eq!(chains.due(at(now), usize::MAX, usize::MAX), levels.collect::<Vec<_>>());
            prop_assert_eq!(chains.len(), model.len());
            let full = ["key-0", "key-1", "key-2"].iter().any(|name| chain(name).len() >= 3);
            prop_assert_eq!(chains.has_full(), full);
        }
    }

    #[test]
    fn records_without_a_key_do_not_wait_for_each_other() {
        let mut chains = Chains::new(100);
        chains.push(ChainKey::of(None, 1), 1, at(9), 1);
        chains.push(ChainKey::of(None, 2), 2, at(1), 1);
        assert_eq!(chains.due(at(1), 10, usize::MAX), [2]);
        chains.remove(&ChainKey::Alone(2), 2);
        assert_eq!(chains.next_due(), Some(at(9)));
    }
}
