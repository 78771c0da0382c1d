//! The poll thread: owns the one consumer of the group and makes every call on it.
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
    config::FromClientConfigAndContext,
    consumer::{BaseConsumer, CommitMode, Consumer},
    error::KafkaError,
};
use tokio::sync::oneshot;

use super::{lane::Lane, routing::Routing};
use crate::{
    dead_letter::requeue_topic,
    headers::Headers,
    kafka::client_config,
    record::{Offset, Record, TopicPartition},
    settings::GroupSettings,
};

/// Longest wait for a record, and so for a command.
const POLL: Duration = Duration::from_millis(20);
/// Records routed before lanes are looked after again.
const ROUND: usize = 2_000;
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
    /// False when the thread has ended, which it never does by itself but on a fatal error.
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
pub(crate) fn start(
    settings: &GroupSettings,
    routing: Routing,
) -> Result<(PollThread, Arc<Routing>), String> {
    let session = settings.session_timeout.as_millis().to_string();
    let heartbeat = settings.heartbeat().as_millis().to_string();
    let config = client_config(
        &settings.kafka,
        &[
            ("group.id", &settings.group),
            ("session.timeout.ms", &session),
            ("heartbeat.interval.ms", &heartbeat),
            // The default assignors stop every member at each join.
            ("partition.assignment.strategy", "cooperative-sticky"),
            // Every partition is assigned at the offset its lease names; a reset would hide a loss.
            ("auto.offset.reset", "error"),
            ("enable.auto.commit", "false"),
            ("enable.auto.offset.store", "false"),
            ("isolation.level", "read_committed"),
            // Pausing throws prefetched records away: fetch little ahead.
            ("queued.min.messages", "10000"),
            ("queued.max.messages.kbytes", "16384"),
            // The default waits a second once that little is there.
            ("fetch.queue.backoff.ms", "5"),
            ("fetch.wait.max.ms", "100"),
            // Where the partitions end, for the lag.
            ("statistics.interval.ms", "2000"),
        ],
    );
    let consumer: BaseConsumer<Routing> =
        BaseConsumer::from_config_and_context(&config, routing).map_err(|error| error.to_string())?;
    let requeue = requeue_topic(&settings.group);
    let topics: Vec<&str> = settings.topics.iter().map(String::as_str).chain([requeue.as_str()]).collect();
    consumer.subscribe(&topics).map_err(|error| error.to_string())?;
    let routing = Arc::clone(consumer.context());
    let (stop, stops) = mpsc::sync_channel(1);
    let alive = Arc::new(AtomicBool::new(true));
    let guard = Alive(alive.clone());
    std::thread::Builder::new()
        .name(format!("poll-{}", settings.group))
        .spawn(move || run(consumer, &stops, guard))
        .map_err(|error| error.to_string())?;
    Ok((PollThread { stop, alive }, routing))
}

fn run(consumer: BaseConsumer<Routing>, stops: &mpsc::Receiver<Stop>, alive: Alive) {
    // Dropped before the consumer, also by a panic.
    let _alive = alive;
    let routing = Arc::clone(consumer.context());
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
        if let Err(error) = round(&consumer, &routing) {
            let text = error.to_string();
            if matches!(error, KafkaError::MessageConsumptionFatal(_)) {
                tracing::error!(
                    error = text,
                    "the Kafka consumer had a fatal error; this process is no member any more"
                );
                return;
            }
            let repeated =
                last_error.as_ref().is_some_and(|(last, at)| *last == text && at.elapsed() < REPEAT_ERROR);
            if !repeated {
                tracing::warn!(error = text, "reading from Kafka fails; trying again");
                last_error = Some((text, Instant::now()));
            }
            if is_out_of_range(&error) {
                routing.reopen_out_of_range(&consumer);
            }
        }
        if let Err(error) = routing.maintain(&consumer) {
            tracing::warn!(%error, "cannot pause or resume a partition");
        }
        if last_commit.elapsed() >= COMMIT_EVERY {
            last_commit = Instant::now();
            routing.open_late(&consumer);
            routing.reopen_stuck(&consumer);
            commit(&consumer, &routing, &mut committed);
        }
    }
}

/// The log does not hold, or no longer, what a partition wants next. Kafka does not say which partition's.
fn is_out_of_range(error: &KafkaError) -> bool {
    use rdkafka::types::RDKafkaErrorCode::{AutoOffsetReset, OffsetOutOfRange};
    matches!(error, KafkaError::MessageConsumption(AutoOffsetReset | OffsetOutOfRange))
}

/// Routes what Kafka has, at most [`ROUND`] records, waiting for the first at most [`POLL`].
fn round(consumer: &BaseConsumer<Routing>, routing: &Routing) -> Result<(), KafkaError> {
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
fn commit(consumer: &BaseConsumer<Routing>, routing: &Routing, committed: &mut HashMap<TopicPartition, i64>) {
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
    if list.count() == 0 {
        return;
    }
    match consumer.commit(&list, CommitMode::Async) {
        Ok(()) => *committed = positions,
        Err(error) => tracing::debug!(%error, "offsets are not committed to Kafka; lag monitors are behind"),
    }
}
