//! Reads again a record that every partition here is known to hold: if it is another one, the log is another.
//!
//! A consumer that goes on at its offset on a log that was made anew, or was cut and has grown again, gets no error. So a record
//! that was once seen there is read from the side, and only when it was found is a newer one remembered in its place: what
//! is compared was read before the last look, whatever the consumer has read since.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use dead_letters::{KafkaSettings, Offset, TopicPartition, client_config};
use rdkafka::{
    Message, Offset as KafkaOffset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _, DefaultConsumerContext},
    error::KafkaResult,
};

use crate::{
    Cause,
    kafka::{LogEnds, Renewed},
    lane::Lane,
    lease::Landmark,
    record::timestamp_ms,
};

/// Partitions in one look; the others come next time.
const MOST: usize = 64;
/// Longest wait for their records.
const LIMIT: Duration = Duration::from_secs(2);
const POLL: Duration = Duration::from_millis(50);

/// A consumer of its own, in no group.
#[derive(Clone)]
pub(crate) struct Probe {
    consumer: Renewed<DefaultConsumerContext>,
    log_ends: LogEnds,
    /// Where the next look begins.
    turn: Arc<AtomicUsize>,
}

impl Probe {
    /// Kafka need not be reachable.
    ///
    /// # Errors
    /// Settings that librdkafka refuses.
    pub(crate) fn new(kafka: &KafkaSettings, log_ends: LogEnds) -> Result<Self, Cause> {
        let config = client_config(
            kafka,
            &[
                // Never joined: librdkafka wants a name.
                ("group.id", "backburner-probe"),
                ("enable.auto.commit", "false"),
                ("auto.offset.reset", "error"),
                // One record of each partition, or the batch that holds it.
                ("fetch.message.max.bytes", "1024"),
                ("queued.min.messages", "1"),
                ("fetch.wait.max.ms", "10"),
                ("log.connection.close", "false"),
            ],
        );
        Ok(Self { consumer: Renewed::new(config)?, log_ends, turn: Arc::default() })
    }

    /// Compares what `lanes` remember with what their logs hold.
    pub(crate) async fn look(&self, lanes: &[Arc<Lane>]) {
        let mut known: Vec<_> =
            lanes.iter().filter_map(|lane| Some((lane.clone(), lane.landmark()?))).collect();
        known.sort_by(|(a, _), (b, _)| a.source.cmp(&b.source));
        if known.is_empty() {
            return;
        }
        let first = self.turn.fetch_add(MOST, Ordering::Relaxed) % known.len();
        known.rotate_left(first);
        known.truncate(MOST);
        let (consumer, wanted) = (self.consumer.clone(), known.clone());
        let read = tokio::task::spawn_blocking(move || {
            consumer.ask(|consumer| match read(consumer, &wanted) {
                // Not even that there is nothing: it hears nothing.
                Ok((found, false)) if found.is_empty() => Err(None),
                read => read.map(|(found, _)| found).map_err(Some),
            })
        });
        let found = match read.await {
            Ok(Ok(found)) => found,
            // Each is asked for in another way.
            Ok(Err(None)) => HashMap::new(),
            Ok(Err(Some(error))) => {
                return tracing::debug!(%error, "the partitions' last records cannot be read again");
            }
            Err(error) => return tracing::error!(%error, "reading the partitions' last records again ended"),
        };
        for (lane, landmark) in known {
            match found.get(&lane.source) {
                Some(there) if *there == landmark => lane.landmark_stands(landmark),
                Some(there) if there.offset == landmark.offset => {
                    lane.landmark_differs(landmark, there.timestamp_ms)
                }
                // It is compacted away.
                Some(_) => lane.landmark_stands(landmark),
                None => self.missing(&lane, landmark).await,
            }
        }
    }

    /// Nothing came: retention has deleted it, or the log ends before it, or Kafka is slow.
    async fn missing(&self, lane: &Lane, landmark: Landmark) {
        let Ok(ends) = self.log_ends.watermarks(&lane.source).await else { return };
        if ends.low > landmark.offset.0 {
            lane.landmark_stands(landmark);
        } else if ends.high <= landmark.offset.0 {
            lane.log_ends_before(landmark, ends.high);
        }
    }
}

/// The first record of each partition at its landmark or after it, of those that come in time; and whether Kafka said of any
/// that there is none.
fn read(
    consumer: &BaseConsumer,
    wanted: &[(Arc<Lane>, Landmark)],
) -> KafkaResult<(HashMap<TopicPartition, Landmark>, bool)> {
    let mut list = TopicPartitionList::new();
    for (Lane { source, .. }, landmark) in wanted.iter().map(|(lane, landmark)| (&**lane, landmark)) {
        list.add_partition_offset(&source.topic, source.partition, KafkaOffset::Offset(landmark.offset.0))?;
    }
    consumer.assign(&list)?;
    let (mut found, mut none, deadline) = (HashMap::new(), false, Instant::now() + LIMIT);
    while found.len() < wanted.len() && Instant::now() < deadline {
        let polled = consumer.poll(POLL);
        // An error is one partition's: what is missing in the end is asked for in another way.
        none |= matches!(polled, Some(Err(_)));
        if let Some(Ok(message)) = polled {
            let source = TopicPartition::new(message.topic(), message.partition());
            let timestamp_ms = timestamp_ms(message.timestamp());
            found.entry(source).or_insert(Landmark { offset: Offset(message.offset()), timestamp_ms });
        }
    }
    consumer.unassign()?;
    Ok((found, none))
}

impl std::fmt::Debug for Probe {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Probe")
    }
}
