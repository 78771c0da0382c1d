//! The events: the same for every way.

use std::{collections::BTreeSet, time::Duration};

use anyhow::{Context, Result};
use rdkafka::producer::FutureProducer;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use uuid::Uuid;

use super::{
    kafka::{producer, send},
    store::now_us,
};

const EVENTS: Uuid = Uuid::from_u128(0x61d6_04cf_3a0b_4f5e_9d37_2b8e_70c4_15aa);

/// One of a key's numbered events.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub(crate) struct Event {
    pub(crate) id: Uuid,
    pub(crate) key: u32,
    /// Its number among those of its key, from 1.
    pub(crate) seq: u32,
    /// How many attempts at it fail.
    pub(crate) fails: u32,
    /// When it was sent, in microseconds since the Unix epoch.
    pub(crate) sent_us: i64,
}

/// What is produced, and how fast.
#[derive(Debug)]
pub(crate) struct Load {
    pub(crate) events: usize,
    pub(crate) keys: u32,
    pub(crate) rate: u32,
    pub(crate) failing: u32,
}

impl Load {
    pub(crate) fn new(events: u32, keys: u32, rate: u32, failing: u32) -> Self {
        Self { events: events as usize, keys, rate, failing }
    }

    /// Number `n`, but for `seq` and `sent_us`. Key and failures follow from `n` alone: as by chance, and the same each time.
    fn event(&self, n: usize) -> Event {
        let id = Uuid::new_v5(&EVENTS, &n.to_be_bytes());
        let below = |bits: u128, limit: u32| u32::try_from(bits % u128::from(limit)).unwrap_or_default();
        let chance = id.as_u128();
        let fails = match below(chance >> 80, 1_000) < self.failing {
            false => 0,
            true => fails(below(chance >> 16, 100)),
        };
        Event { id, key: below(chance, self.keys), seq: 0, fails, sent_us: 0 }
    }

    /// Keys of which an event fails.
    pub(crate) fn failing_keys(&self) -> BTreeSet<i32> {
        let events = (0..self.events).map(|n| self.event(n));
        events.filter(|event| event.fails > 0).map(|event| event.key.cast_signed()).collect()
    }

    /// Sends all of them at their times, and waits until Kafka has them.
    pub(crate) async fn produce(&self, topic: &str) -> Result<()> {
        let producer: FutureProducer = producer()?;
        let mut numbers = vec![0; self.keys as usize];
        let mut sent = Vec::with_capacity(self.events);
        let start = Instant::now();
        for n in 0..self.events {
            if self.rate > 0 {
                #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
                let due = n as f64 / f64::from(self.rate);
                tokio::time::sleep_until(start + Duration::from_secs_f64(due)).await;
            }
            let mut event = self.event(n);
            let number = numbers.get_mut(event.key as usize).context("no such key")?;
            *number += 1;
            (event.seq, event.sent_us) = (*number, now_us()?);
            sent.push(send(&producer, topic, &event)?);
        }
        for delivery in sent {
            delivery.await?.map_err(|(error, _)| error)?;
        }
        Ok(())
    }
}

/// How many attempts at an event that fails do so: half of them once, one in twenty for ever.
fn fails(of_100: u32) -> u32 {
    match of_100 {
        0..50 => 1,
        50..80 => 2,
        80..95 => 3,
        _ => u32::MAX >> 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_events_each_time_and_as_many_fail_as_were_asked_for() {
        let load = Load::new(60_000, 3_000, 0, 10);
        let failing = (0..load.events).filter(|n| load.event(*n).fails > 0).count();
        assert!((500..700).contains(&failing), "{failing}");
        let first: Vec<u32> = (0..100).map(|n| load.event(n).key).collect();
        assert_eq!(first, (0..100).map(|n| load.event(n).key).collect::<Vec<_>>());
        assert!(first.iter().all(|key| *key < 3_000) && first.iter().max() > Some(&1_000), "{first:?}");
    }
}
