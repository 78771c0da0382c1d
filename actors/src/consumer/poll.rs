//! The poll thread: owns one consumer and makes every call on it.
//!
//! It polls whatever handlers do, so membership in the group never depends on them.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    time::{Duration, Instant},
};

use rdkafka::{
    Message, Offset as KafkaOffset, Timestamp, TopicPartitionList,
    consumer::{CommitMode, Consumer as _},
    error::KafkaError,
};
use tokio::sync::oneshot;

use super::{
    lane::Lane,
    member::{Consumer, connect, retire},
    routing::Routing,
};
use crate::{
    headers::Headers,
    record::{Offset, Record, TopicPartition},
};

/// Longest wait for a record, and so for a command.
const POLL: Duration = Duration::from_millis(20);
/// Records routed before lanes are looked after again.
const ROUND: usize = 2_000;
const COMMIT_EVERY: Duration = Duration::from_secs(1);
const REPEAT_ERROR: Duration = Duration::from_secs(10);
/// Milliseconds in which a full lane is waited for before it is paused.
const PATIENCE: u32 = 20;

/// The running thread.
#[derive(Debug)]
pub(crate) struct PollThread {
    stop: mpsc::SyncSender<Stop>,
    alive: Arc<AtomicBool>,
}

/// Who is told of the end.
struct Stop {
    drained: oneshot::Sender<bool>,
    left: oneshot::Sender<()>,
}

/// What a thread that was asked to stop answers.
pub(crate) struct Stopping {
    /// All lanes are drained; true when nothing was left behind.
    pub(crate) drained: oneshot::Receiver<bool>,
    /// Kafka's lag monitors are told and the group is left, as far as Kafka answers.
    pub(crate) left: oneshot::Receiver<()>,
}

/// Says that the thread has ended, however it ends: the consumer's own farewell may take long after that.
struct Alive(Arc<AtomicBool>);

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

impl PollThread {
    /// False when the thread has ended, which it never does by itself.
    pub(crate) fn is_alive(&self) -> bool {
        self.alive.load(Ordering::Acquire)
    }

    /// Asks it to drain all lanes and to leave the group.
    pub(crate) fn stop(&self) -> Stopping {
        let ((drained, has_drained), (left, has_left)) = (oneshot::channel(), oneshot::channel());
        // A thread that is gone, or stops already, drops the senders: the receivers see that.
        self.stop.try_send(Stop { drained, left }).unwrap_or_default();
        Stopping { drained: has_drained, left: has_left }
    }
}

/// Creates the consumer, subscribes and starts the thread.
///
/// # Errors
/// Settings that librdkafka refuses; a thread that the system refuses.
pub(super) fn start(routing: Routing) -> Result<(PollThread, Arc<Routing>), String> {
    let routing = Arc::new(routing);
    let consumer = connect(&routing)?;
    let (stop, stops) = mpsc::sync_channel(1);
    let alive = Arc::new(AtomicBool::new(true));
    let (guard, routed) = (Alive(alive.clone()), routing.clone());
    std::thread::Builder::new()
        .name(format!("poll-{}", routing.group()))
        .spawn(move || run(consumer, &routed, &stops, guard))
        .map_err(|error| error.to_string())?;
    Ok((PollThread { stop, alive }, routing))
}

fn run(mut consumer: Consumer, routing: &Arc<Routing>, stops: &mpsc::Receiver<Stop>, alive: Alive) {
    // Dropped before the consumer, also by a panic.
    let _alive = alive;
    let mut committed = HashMap::new();
    let mut last_commit = Instant::now();
    let mut last_error: Option<(String, Instant)> = None;
    let mut waits = 0;
    loop {
        if let Ok(stop) = stops.try_recv() {
            let (clean, offsets) = routing.drain_all();
            // Whoever asked may have run out of patience.
            stop.drained.send(clean).unwrap_or_default();
            Routing::commit(&consumer, &offsets);
            // Closing leaves the group, so that the others need not wait for the session to time out.
            drop(consumer);
            stop.left.send(()).unwrap_or_default();
            return;
        }
        // Pausing throws away what was fetched ahead: a lane that is full because Kafka is fast, not because its handler is
        // slow, has room again in no time.
        if waits < PATIENCE && routing.has_full() {
            waits += 1;
            std::thread::sleep(Duration::from_millis(1));
            continue;
        }
        waits = 0;
        let mut broken = routing.is_stuck().then(|| "it is stuck in leaving its partitions".to_owned());
        if let Err(error) = round(&consumer, routing) {
            let text = error.to_string();
            let repeated =
                last_error.as_ref().is_some_and(|(last, at)| *last == text && at.elapsed() < REPEAT_ERROR);
            if !repeated {
                tracing::warn!(error = text, "reading from Kafka fails; trying again");
                last_error = Some((text.clone(), Instant::now()));
            }
            if is_out_of_range(&error) {
                routing.reopen_out_of_range(&consumer);
            }
            if matches!(error, KafkaError::MessageConsumptionFatal(_)) {
                broken = Some(text);
            }
        }
        if let Some(why) = broken {
            consumer = replaced(consumer, routing, &why);
            committed.clear();
        }
        if let Err(error) = routing.maintain(&consumer) {
            tracing::warn!(%error, "cannot pause or resume a partition");
        }
        if last_commit.elapsed() >= COMMIT_EVERY {
            last_commit = Instant::now();
            routing.open_late(&consumer);
            routing.reopen_stuck(&consumer);
            commit(&consumer, routing, &mut committed);
        }
    }
}

/// A new consumer in place of one that will not get anywhere any more. Where its partitions are is in PostgreSQL.
fn replaced(old: Consumer, routing: &Arc<Routing>, why: &str) -> Consumer {
    let group = routing.group();
    tracing::error!(group, why, "the Kafka consumer is of no use any more; building a new one");
    routing.forget();
    match connect(routing) {
        Ok(fresh) => {
            retire(old);
            fresh
        }
        Err(error) => {
            // The same settings have worked before: most likely the system is out of something.
            tracing::error!(group, error, "cannot build a new Kafka consumer; trying again");
            std::thread::sleep(COMMIT_EVERY);
            old
        }
    }
}

/// The log does not hold, or no longer, what a partition wants next. Kafka does not say which partition's.
fn is_out_of_range(error: &KafkaError) -> bool {
    use rdkafka::types::RDKafkaErrorCode::{AutoOffsetReset, OffsetOutOfRange};
    matches!(error, KafkaError::MessageConsumption(AutoOffsetReset | OffsetOutOfRange))
}

/// Routes what Kafka has, at most [`ROUND`] records, waiting for the first at most [`POLL`].
fn round(consumer: &Consumer, routing: &Routing) -> Result<(), KafkaError> {
    let mut timeout = POLL;
    let mut run: Option<(Arc<Lane>, Vec<Record>)> = None;
    let mut result = Ok(());
    for _ in 0..ROUND {
        let message = match consumer.poll(timeout) {
            None => break,
            Some(Ok(message)) => message,
            Some(Err(error)) => {
                result = Err(error);
                break;
            }
        };
        timeout = Duration::ZERO;
        // Kafka delivers runs of one partition: look its lane up once per run.
        let same = run.as_ref().is_some_and(|(lane, _)| {
            lane.source.partition == message.partition() && *lane.source.topic == *message.topic()
        });
        if !same {
            deliver(run.take());
            run = routing.lane(message.topic(), message.partition()).map(|lane| (lane, Vec::new()));
        }
        if let Some((lane, records)) = &mut run {
            records.push(owned(&lane.source, &message));
        }
    }
    deliver(run);
    result
}

fn deliver(run: Option<(Arc<Lane>, Vec<Record>)>) {
    if let Some((lane, records)) = run {
        lane.offer(records.into_iter());
    }
}

fn owned<M: Message>(source: &TopicPartition, message: &M) -> Record {
    Record {
        source: source.clone(),
        offset: Offset(message.offset()),
        timestamp_ms: match message.timestamp() {
            Timestamp::CreateTime(ms) | Timestamp::LogAppendTime(ms) => ms,
            Timestamp::NotAvailable => 0,
        },
        key: message.key().map(Into::into),
        value: message.payload().map(Into::into),
        headers: Headers::from_kafka(message),
    }
}

/// Tells Kafka where the lanes are, for lag monitors.
fn commit(consumer: &Consumer, routing: &Routing, committed: &mut HashMap<TopicPartition, i64>) {
    let positions = routing.positions();
    let mut list = TopicPartitionList::new();
    for (source, next) in &positions {
        if committed.get(source) != Some(next)
            && let Err(error) =
                list.add_partition_offset(&source.topic, source.partition, KafkaOffset::Offset(*next))
        {
            tracing::warn!(topic = &*source.topic, partition = source.partition, %error, "cannot note an offset");
        }
    }
    if list.count() == 0 || !routing.may_commit() {
        return;
    }
    match consumer.commit(&list, CommitMode::Async) {
        Ok(()) => *committed = positions,
        Err(error) => {
            routing.commit_answered();
            tracing::debug!(%error, "offsets are not committed to Kafka; lag monitors are behind");
        }
    }
}
