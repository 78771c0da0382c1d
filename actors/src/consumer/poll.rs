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

use dead_letters::TopicPartition;
use rdkafka::{
    Offset as KafkaOffset, TopicPartitionList,
    consumer::{CommitMode, Consumer as _},
    error::KafkaError,
};
use tokio::sync::oneshot;

use super::{
    assignment::Assignment,
    client::{Consumer, connect, retire},
    deliver::round,
};

/// Longest wait for a record, and so for a command.
const POLL: Duration = Duration::from_millis(20);
const COMMIT_EVERY: Duration = Duration::from_secs(1);
const REPEAT_ERROR: Duration = Duration::from_secs(10);

/// The running thread.
#[derive(Debug)]
pub(crate) struct PollThread {
    stop: mpsc::SyncSender<Stop>,
    alive: Arc<AtomicBool>,
}

/// Who receives the end.
struct Stop {
    drained: oneshot::Sender<bool>,
    left: oneshot::Sender<()>,
}

/// What a thread that was asked to stop answers.
pub(crate) struct Stopping {
    /// All lanes are drained; true when nothing was left behind.
    pub(crate) drained: oneshot::Receiver<bool>,
    /// Offsets are committed, for lag monitors, and the group is left, as far as Kafka answers.
    pub(crate) left: oneshot::Receiver<()>,
}

/// Says that the thread has ended, however it ends, and gives its partitions up: the consumer's own farewell comes after that, and
/// may take long.
struct Alive {
    alive: Arc<AtomicBool>,
    assignment: Arc<Assignment>,
}

impl Drop for Alive {
    fn drop(&mut self) {
        self.alive.store(false, Ordering::Release);
        // The queues of its partitions would keep the consumer, and so its membership.
        self.assignment.forget();
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
pub(super) fn start(assignment: Assignment) -> Result<(PollThread, Arc<Assignment>), String> {
    let assignment = Arc::new(assignment);
    let consumer = connected(&assignment)?;
    let (stop, stops) = mpsc::sync_channel(1);
    let alive = Arc::new(AtomicBool::new(true));
    let guard = Alive { alive: alive.clone(), assignment: assignment.clone() };
    std::thread::Builder::new()
        .name(format!("poll-{}", assignment.group()))
        .spawn(move || run(consumer, &stops, &guard))
        .map_err(|error| error.to_string())?;
    Ok((PollThread { stop, alive }, assignment))
}

fn run(consumer: Arc<Consumer>, stops: &mpsc::Receiver<Stop>, alive: &Alive) {
    let (mut consumer, assignment) = (consumer, &alive.assignment);
    let mut committed = HashMap::new();
    let mut last_commit = Instant::now();
    let mut last_error: Option<(String, Instant)> = None;
    let mut broken: Option<String> = None;
    loop {
        if let Ok(stop) = stops.try_recv() {
            let (clean, offsets) = assignment.drain_all();
            // Whoever asked may have run out of patience.
            stop.drained.send(clean).unwrap_or_default();
            Assignment::commit(&consumer, &offsets);
            // Closing leaves the group, so that the others need not wait for the session to time out.
            drop(consumer);
            stop.left.send(()).unwrap_or_default();
            return;
        }
        assignment.polled();
        if let Some(why) = assignment.is_stuck() {
            broken = Some(why.to_owned());
        }
        assignment.seek(&consumer);
        match round(&consumer, assignment) {
            Ok(0) => assignment.bell.wait(POLL),
            Ok(_) => {}
            Err(error) => {
                assignment.bell.wait(POLL);
                let text = error.to_string();
                let repeated = last_error
                    .as_ref()
                    .is_some_and(|(last, at)| *last == text && at.elapsed() < REPEAT_ERROR);
                if !repeated {
                    tracing::warn!(
                        group = assignment.group(),
                        error = text,
                        "reading from Kafka fails; trying again"
                    );
                    last_error = Some((text.clone(), Instant::now()));
                }
                if matches!(error, KafkaError::MessageConsumptionFatal(_)) {
                    broken = Some(text);
                }
            }
        }
        if let Some(why) = broken.take() {
            match replacement(assignment, &why) {
                Some(fresh) => {
                    retire(std::mem::replace(&mut consumer, fresh));
                    committed.clear();
                }
                None => broken = Some(why),
            }
        }
        if last_commit.elapsed() >= COMMIT_EVERY {
            last_commit = Instant::now();
            assignment.reopen_stuck(&consumer);
            assignment.note_positions(&consumer);
            commit(&consumer, assignment, &mut committed);
        }
    }
}

fn connected(assignment: &Arc<Assignment>) -> Result<Arc<Consumer>, String> {
    let Assignment { settings, subscription, bell, .. } = &**assignment;
    connect(settings, subscription, bell, assignment.clone())
}

/// A new consumer in place of one that will not get anywhere any more. Where its partitions are is in PostgreSQL.
fn replacement(assignment: &Arc<Assignment>, why: &str) -> Option<Arc<Consumer>> {
    let group = assignment.group();
    tracing::error!(group, why, "the Kafka consumer is of no use any more; building a new one");
    assignment.forget();
    match connected(assignment) {
        Ok(fresh) => Some(fresh),
        Err(error) => {
            // The same settings have worked before: most likely the system is out of something.
            tracing::error!(group, error, "cannot build a new Kafka consumer; trying again");
            std::thread::sleep(COMMIT_EVERY);
            None
        }
    }
}

/// Tells Kafka where the lanes are, for lag monitors.
fn commit(consumer: &Consumer, assignment: &Assignment, committed: &mut HashMap<TopicPartition, i64>) {
    let positions = assignment.positions();
    let mut list = TopicPartitionList::new();
    for (source, next) in &positions {
        if committed.get(source) != Some(next)
            && let Err(error) =
                list.add_partition_offset(&source.topic, source.partition, KafkaOffset::Offset(*next))
        {
            tracing::warn!(topic = &*source.topic, partition = source.partition, %error, "cannot note an offset");
        }
    }
    if list.count() == 0 || !assignment.may_commit() {
        return;
    }
    match consumer.commit(&list, CommitMode::Async) {
        Ok(()) => *committed = positions,
        Err(error) => {
            assignment.commit_answered();
            tracing::debug!(%error, "offsets are not committed to Kafka; lag monitors are behind");
        }
    }
}
