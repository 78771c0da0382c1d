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
    member::{Consumer, Queue, connect, retire},
    routing::Routing,
};
use crate::{
    headers::Headers,
    record::{Offset, Record, TopicPartition},
};

/// Longest wait for a record, and so for a command.
const POLL: Duration = Duration::from_millis(20);
/// Records of one partition delivered before it is another's turn.
const TURN: usize = 1_000;
const COMMIT_EVERY: Duration = Duration::from_secs(1);
const REPEAT_ERROR: Duration = Duration::from_secs(10);

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

fn run(mut consumer: Arc<Consumer>, routing: &Arc<Routing>, stops: &mpsc::Receiver<Stop>, alive: Alive) {
    // Dropped before the consumer, also by a panic.
    let _alive = alive;
    let mut committed = HashMap::new();
    let mut last_commit = Instant::now();
    let mut last_error: Option<(String, Instant)> = None;
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
        let mut broken = routing.is_stuck().then(|| "it is stuck in leaving its partitions".to_owned());
        routing.seek(&consumer);
        let delivered = round(&consumer, routing);
        if let Ok(0) = delivered {
            routing.bell.wait(POLL);
        }
        if let Err(error) = delivered {
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
        if last_commit.elapsed() >= COMMIT_EVERY {
            last_commit = Instant::now();
            routing.open_late(&consumer);
            routing.reopen_stuck(&consumer);
            commit(&consumer, routing, &mut committed);
        }
    }
}

/// A new consumer in place of one that will not get anywhere any more. Where its partitions are is in PostgreSQL.
fn replaced(old: Arc<Consumer>, routing: &Arc<Routing>, why: &str) -> Arc<Consumer> {
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

/// Carries out what the group wants and delivers what Kafka has, a turn of each partition. Returns how many records.
fn round(consumer: &Consumer, routing: &Routing) -> Result<usize, KafkaError> {
    // Records come by their partition's queue; here come rebalances, statistics and errors.
    match consumer.poll(Duration::ZERO) {
        None => {}
        Some(Err(error)) => return Err(error),
        Some(Ok(message)) => routing.gone_astray(&message),
    }
    let (records, bytes) = (routing.settings.lane_max_records, routing.settings.lane_max_bytes);
    let mut delivered = 0;
    for (lane, queue) in routing.feeds() {
        if let Some((records, bytes)) = lane.room(records, bytes) {
            delivered += turn(&lane, &queue, records.min(TURN), bytes)?;
        }
    }
    Ok(delivered)
}

/// Delivers up to so many records, or bytes and one record more.
fn turn(lane: &Lane, queue: &Queue, most: usize, bytes: usize) -> Result<usize, KafkaError> {
    let (mut records, mut size, mut result) = (Vec::new(), 0, Ok(()));
    while records.len() < most && size < bytes {
        match queue.poll(Duration::ZERO) {
            None => break,
            Some(Ok(message)) => {
                let record = owned(&lane.source, &message);
                size += record.size();
                records.push(record);
            }
            Some(Err(error)) => {
                result = Err(error);
                break;
            }
        }
    }
    let delivered = records.len();
    lane.offer(records.into_iter());
    result.map(|()| delivered)
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
