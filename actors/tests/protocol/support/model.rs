//! What a load must have led to, whatever happened on the way.

use std::collections::{BTreeMap, HashSet};

use rdkafka::Message;
use serde_json::Value;
use uuid::Uuid;

use super::{World, until};

/// Keys of a load.
const KEYS: usize = 8;

/// One record to be sent.
#[derive(Clone, Debug)]
struct Planned {
    key: String,
    value: Vec<u8>,
}

/// Records to be sent, and what they must lead to.
#[derive(Debug, Default)]
pub(crate) struct Load {
    records: Vec<Planned>,
    /// The list of each key.
    lists: BTreeMap<String, Vec<i64>>,
    /// Numbers refused for ever, by key.
    refused: BTreeMap<String, Vec<i64>>,
    poison: usize,
}

impl Load {
    /// Some of everything: events that pass, fail for a while, call out, panic once, come twice, are refused, are none.
    pub(crate) fn of_everything(rounds: i64) -> Self {
        let mut load = Self::default();
        for n in 0..rounds {
            for at in 0..KEYS {
                let key = format!("key-{at}");
                let mode = match (n * 8 + i64::try_from(at).expect("small")) % 29 {
                    3 => "flaky:1",
                    11 => "flaky:2",
                    5 | 17 => "call",
                    23 if n % 3 == 0 => "panic-once",
                    _ => "ok",
                };
                let value = World::event(Uuid::now_v7(), &key, n, mode);
                load.lists.entry(key.clone()).or_default().push(n);
                load.push(&key, value.clone());
                if (n + i64::try_from(at).expect("small")) % 13 == 0 {
                    load.push(&key, value);
                }
            }
            if n % 7 == 2 {
                let value = World::event(Uuid::now_v7(), "refused", n, "permanent");
                load.refused.entry("refused".into()).or_default().push(n);
                load.push("refused", value);
            }
            if n % 11 == 4 {
                load.push("poison", b"no json".to_vec());
                load.poison += 1;
            }
        }
        load
    }

    fn push(&mut self, key: &str, value: Vec<u8>) {
        self.records.push(Planned { key: key.to_owned(), value });
    }

    /// How many records there are.
    pub(crate) fn len(&self) -> usize {
        self.records.len()
    }

    /// Dead letters it must lead to.
    pub(crate) fn dead(&self) -> usize {
        self.poison + self.refused.values().map(Vec::len).sum::<usize>()
    }

    /// Sends a part of it.
    pub(crate) async fn send(&self, world: &World, part: std::ops::Range<usize>) {
        world
            .send_all(self.records[part].iter().map(|record| (record.key.as_str(), record.value.as_slice())))
            .await;
    }

    /// Waits until nothing moves any more, and compares. With `forgiven`, what was refused was put back and has passed.
    pub(crate) async fn check(&self, world: &World, forgiven: bool) {
        let total = i64::try_from(self.len()).expect("small");
        let read = format!(
            "SELECT coalesce(sum(next_offset - first_offset), 0)::bigint FROM partition_lease WHERE topic = '{}'",
            world.topic
        );
        let moved = format!(
            "SELECT coalesce(sum(moved), 0)::bigint FROM partition_lease WHERE topic = '{}.requeue'",
            world.group
        );
        let put_back = if forgiven { i64::try_from(self.dead() - self.poison).expect("small") } else { 0 };
        until("everything is read, run and published", || async {
            world.number(&read).await == total
                && world.number(&moved).await >= put_back
                && world.number("SELECT count(*) FROM parked").await == 0
                && world.number("SELECT count(*) FROM outbox").await == 0
        })
        .await;
        assert_eq!(world.unaccounted().await, 0, "every offset has an outcome");
        let lists: BTreeMap<_, _> = world.lists().await.into_iter().collect();
        let mut expected = self.lists.clone();
        if forgiven {
            expected.extend(self.refused.clone());
        }
        assert_eq!(lists, expected, "each number took effect once, in the order of its key");
        self.check_said(world, &expected).await;
        self.check_letters(world).await;
    }

    /// Everything that took effect was published, each key's first sightings in order.
    async fn check_said(&self, world: &World, expected: &BTreeMap<String, Vec<i64>>) {
        let (mut said, mut seen) = (BTreeMap::<String, Vec<i64>>::new(), HashSet::new());
        for record in world.read(&world.out).await {
            let value: Value =
                serde_json::from_slice(record.payload().expect("a body")).expect("the toy's JSON");
            let (key, n) =
                (value["key"].as_str().expect("text").to_owned(), value["n"].as_i64().expect("number"));
            if seen.insert((key.clone(), n)) {
                said.entry(key).or_default().push(n);
            }
        }
        if let Some(mut written) = said.remove("written") {
            let count = world.number("SELECT count(*) FROM written").await;
            // Of several instances, among which there is no order: what a dead one left comes later than what its successor
            // has begun with.
            written.sort_unstable();
            assert_eq!(written, (1..=count).collect::<Vec<_>>(), "every committed row was published");
        }
        assert_eq!(&said, expected, "what was published is what took effect");
    }

    /// Every record that had to die did, under one id.
    async fn check_letters(&self, world: &World) {
        let letters = world.read(&actors::dead_letters::dlq_topic(&world.group)).await;
        let first_deaths: HashSet<_> = letters
            .iter()
            .map(|record| {
                let headers = actors::Headers::from_kafka(record);
                actors::dead_letters::DeadLetter::from_headers(&headers).expect("dlq headers")
            })
            .filter(|letter| letter.generation == 1)
            .map(|letter| letter.id)
            .collect();
        assert_eq!(first_deaths.len(), self.dead(), "dead letters");
    }
}
