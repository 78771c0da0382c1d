//! Retrying in place and with retry topics, as one would write them by hand.
//!
//! A thread polls, and a task for each partition of each topic works in batches: one transaction for what succeeds. Offsets
//! are not committed to Kafka and nothing is remembered of what was seen, so that both ways are faster here than they could be
//! in earnest.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, Result};
use deadpool_postgres::Pool;
use rdkafka::{Message, producer::FutureProducer};
use tokio::{
    sync::mpsc,
    task::{JoinHandle, JoinSet},
};

use super::{
    DELAYS, Way,
    kafka::{Topics, producer, send},
    load::Event,
    store::{self, now_us},
};
use crate::servers::{PARTITIONS, consumer};

const BATCH: usize = 500;
const POLL: Duration = Duration::from_millis(100);

/// An event, and when its record was written.
type Delivered = (Event, i64);

/// The consumers of one way.
pub(crate) struct ByHand {
    stop: Arc<AtomicBool>,
    polling: JoinHandle<Result<()>>,
    workers: JoinSet<Result<()>>,
}

/// Reads the source, and with retry topics those too.
pub(crate) fn start(way: Way, topics: &Topics, pool: &Pool) -> Result<ByHand> {
    let mut names = vec![topics.source.as_str()];
    names.extend(topics.retries.iter().map(String::as_str));
    // Where a failed record goes after it has waited in place for as long as it may.
    let next: Vec<String> = topics.retries.iter().cloned().chain([topics.dead.clone()]).collect();
    let producer = producer()?;
    let (mut workers, mut senders) = (JoinSet::new(), BTreeMap::new());
    for (level, name) in names.iter().enumerate() {
        for partition in 0..PARTITIONS {
            // Without a bound: one partition that waits must not hold up the thread that polls for all.
            let (sender, receiver) = mpsc::unbounded_channel();
            senders.insert(((*name).to_owned(), partition), sender);
            let worker = Worker { level, next: next.clone(), producer: producer.clone(), pool: pool.clone() };
            match way {
                Way::Blocking => workers.spawn(worker.in_place(receiver)),
                _ if level == 0 => workers.spawn(worker.first(receiver)),
                _ => workers.spawn(worker.again(receiver)),
            };
        }
    }
    let consumer = consumer(&names)?;
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = stop.clone();
    let polling = tokio::task::spawn_blocking(move || -> Result<()> {
        while !stopped.load(Ordering::Relaxed) {
            let Some(message) = consumer.poll(POLL) else { continue };
            let message = message?;
            let event = serde_json::from_slice(message.payload().unwrap_or_default())?;
            let written = message.timestamp().to_millis().context("a record without a time")?;
            let place = (message.topic().to_owned(), message.partition());
            // Nobody listens where a worker failed, which `stop` tells.
            senders.get(&place).context("nobody reads this partition")?.send((event, written))?;
        }
        Ok(())
    });
    Ok(ByHand { stop, polling, workers })
}

impl ByHand {
    /// Ends it, and says what failed.
    pub(crate) async fn stop(mut self) -> Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        let polled = self.polling.await?;
        while let Some(worker) = self.workers.join_next().await {
            worker??;
        }
        polled
    }
}

/// What works on one partition of one topic.
struct Worker {
    /// Failed attempts before those of this topic.
    level: usize,
    /// By level, where a record goes that failed there.
    next: Vec<String>,
    producer: FutureProducer,
    pool: Pool,
}

impl Worker {
    /// Whether the attempt after `failed` others fails as well.
    fn fails(event: &Event, failed: usize) -> bool {
        usize::try_from(event.fails).is_ok_and(|fails| failed < fails)
    }

    /// Tries each again where it stands, until it succeeds or is dead.
    async fn in_place(self, mut receiver: mpsc::UnboundedReceiver<Delivered>) -> Result<()> {
        let mut taken = Vec::with_capacity(BATCH);
        while receiver.recv_many(&mut taken, BATCH).await > 0 {
            let mut good = Vec::with_capacity(taken.len());
            for (event, _) in taken.drain(..) {
                if !Self::fails(&event, 0) {
                    good.push(event);
                    continue;
                }
                self.commit(std::mem::take(&mut good)).await?;
                let mut failed = 1;
                for delay in DELAYS {
                    tokio::time::sleep(delay).await;
                    if !Self::fails(&event, failed) {
                        break;
                    }
                    failed += 1;
                }
                match failed > DELAYS.len() {
                    true => self.publish(&[event]).await?,
                    false => good.push(event),
                }
            }
            self.commit(good).await?;
        }
        Ok(())
    }

    /// Tries each once.
    async fn first(self, mut receiver: mpsc::UnboundedReceiver<Delivered>) -> Result<()> {
        let mut taken = Vec::with_capacity(BATCH);
        while receiver.recv_many(&mut taken, BATCH).await > 0 {
            self.once(taken.drain(..).map(|(event, _)| event)).await?;
        }
        Ok(())
    }

    /// Tries each once when it has waited. All of a topic wait equally long: the first is due first.
    async fn again(self, mut receiver: mpsc::UnboundedReceiver<Delivered>) -> Result<()> {
        let delay = i64::try_from(DELAYS[self.level - 1].as_millis())?;
        let (mut taken, mut waiting) = (Vec::new(), VecDeque::new());
        while receiver.recv_many(&mut taken, BATCH).await > 0 {
            waiting.extend(taken.drain(..));
            while let Some((_, written)) = waiting.front() {
                let wait = u64::try_from(written + delay - now_us()? / 1_000).unwrap_or(0);
                tokio::time::sleep(Duration::from_millis(wait)).await;
                let now = now_us()? / 1_000;
                let due = waiting.partition_point(|(_, written)| written + delay <= now);
                self.once(waiting.drain(..due).map(|(event, _)| event)).await?;
            }
        }
        Ok(())
    }

    /// One attempt at each: what fails goes to the next topic, what succeeds is committed.
    async fn once(&self, events: impl Iterator<Item = Event>) -> Result<()> {
        let (failed, good): (Vec<_>, Vec<_>) = events.partition(|event| Self::fails(event, self.level));
        // First, so that a process that dies in between does it twice rather than never.
        self.publish(&failed).await?;
        self.commit(good).await
    }

    async fn publish(&self, events: &[Event]) -> Result<()> {
        let topic = self.next.get(self.level).context("no topic after the last")?;
        let sent: Result<Vec<_>> = events.iter().map(|event| send(&self.producer, topic, event)).collect();
        for delivery in sent? {
            delivery.await?.map_err(|(error, _)| error)?;
        }
        Ok(())
    }

    async fn commit(&self, events: Vec<Event>) -> Result<()> {
        if events.is_empty() {
            return Ok(());
        }
        let mut keys: Vec<i32> = events.iter().map(|event| event.key.cast_signed()).collect();
        keys.sort_unstable();
        keys.dedup();
        let mut client = self.pool.get().await?;
        let tx = client.transaction().await?;
        store::lock(&tx, &keys).await?;
        store::apply(&tx, &events).await?;
        Ok(tx.commit().await?)
    }
}
