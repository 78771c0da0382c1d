//! Which partition a key belongs to, for as long as the process lives.
//!
//! A client that follows a topic's growth sends a key's next record to another partition than its last one: order is lost, and
//! nobody hears of it. So the count that a topic had when it was first written to, or that the settings gave, is kept.

use std::{collections::HashMap, sync::Arc};

use parking_lot::RwLock;
use rdkafka::producer::Partitioner;

/// The counts that are kept, by topic. Cheap to clone; all clones are one.
#[derive(Clone, Debug, Default)]
pub(super) struct KeptPartitions(Arc<RwLock<HashMap<Box<str>, i32>>>);

impl KeptPartitions {
    /// `topic` has `count` partitions, whatever Kafka says.
    pub(super) fn keep(&self, topic: &str, count: i32) {
        self.0.write().insert(topic.into(), count);
    }

    /// The topics written to so far, with what is kept of them.
    pub(super) fn all(&self) -> HashMap<Box<str>, i32> {
        self.0.read().clone()
    }

    fn of(&self, topic: &str, now: i32) -> i32 {
        // Apart from the branch below: a guard in a condition lives as long as what depends on it.
        let known = self.0.read().get(topic).copied();
        let kept = known.unwrap_or_else(|| *self.0.write().entry(topic.into()).or_insert(now));
        kept.clamp(1, now.max(1))
    }
}

impl Partitioner for KeptPartitions {
    fn partition(
        &self,
        topic: &str,
        key: Option<&[u8]>,
        count: i32,
        is_available: impl Fn(i32) -> bool,
    ) -> i32 {
        let kept = self.of(topic, count);
        match key {
            Some(key) => partition_of(key, kept),
            None => {
                let any = rand::random_range(0..kept);
                (0..kept)
                    .map(|step| (any + step) % kept)
                    .find(|partition| is_available(*partition))
                    .unwrap_or(any)
            }
        }
    }
}

/// The partition of a key among `count`, as Kafka's own producer and most others place it.
fn partition_of(key: &[u8], count: i32) -> i32 {
    let positive = i32::try_from(murmur2(key) & 0x7fff_ffff).unwrap_or(0);
    positive % count.max(1)
}

/// MurmurHash2 (Appleby), 32 bits, with the seed that Kafka's clients use.
fn murmur2(key: &[u8]) -> u32 {
    const SEED: u32 = 0x9747_b28c;
    const M: u32 = 0x5bd1_e995;
    let mut hash = SEED ^ u32::try_from(key.len()).unwrap_or(u32::MAX);
    let (words, rest) = key.as_chunks::<4>();
    for word in words {
        let mut k = u32::from_le_bytes(*word).wrapping_mul(M);
        k = (k ^ (k >> 24)).wrapping_mul(M);
        hash = hash.wrapping_mul(M) ^ k;
    }
    if !rest.is_empty() {
        let tail = rest.iter().rev().fold(0, |tail, byte| tail << 8 | u32::from(*byte));
        hash = (hash ^ tail).wrapping_mul(M);
    }
    hash = (hash ^ (hash >> 13)).wrapping_mul(M);
    hash ^ (hash >> 15)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As Kafka's clients compute them.
    #[test]
    fn a_keys_hash_is_that_of_other_clients() {
        for (key, hash) in [
            ("kafka", 0xd067_cf64),
            ("giberish123456789", 0x8f55_2b0c),
            ("1234", 0x9fc9_7b14),
            ("234", 0xe7c0_09ca),
            ("34", 0x8739_30da),
            ("4", 0x5a4b_5ca1),
            ("PreAmbleWillBeRemoved,ThePrePartThatIs", 0x7842_4f1c),
            ("reAmbleWillBeRemoved,ThePrePartThatIs", 0x4a62_b377),
            ("", 0x106e_08d9),
        ] {
            assert_eq!(murmur2(key.as_bytes()), hash, "{key}");
        }
    }

    #[test]
    fn a_key_stays_where_it_was_when_its_topic_grows() {
        let kept = KeptPartitions::default();
        let of = |topic, count| -> Vec<i32> {
            let keys = (0..100).map(|n| format!("key-{n}"));
            keys.map(|key| kept.partition(topic, Some(key.as_bytes()), count, |_| true)).collect()
        };
        let before = of("t", 6);
        assert_eq!(of("t", 9), before);
        kept.keep("u", 3);
        assert!(of("u", 6).iter().all(|partition| *partition < 3));
        let nowhere = kept.partition("u", None, 6, |partition| partition == 2);
        assert_eq!(nowhere, 2, "of those that can be written to");
    }
}
