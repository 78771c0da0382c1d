//! Takes what Kafka has delivered of each partition, as far as its lane has room.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use rdkafka::{Message, Timestamp, TopicPartitionList, consumer::Consumer as _, error::KafkaError};

use super::{
    lane::Lane,
    member::{Consumer, Queue},
    routing::{Routed, Routing, report},
};
use crate::{
    headers::Headers,
    record::{Offset, Record, TopicPartition},
};

/// Records of one partition delivered before it is another's turn.
const TURN: usize = 1_000;
/// A queue that nobody reads is refilled up to librdkafka's bounds, and each record in it may hold on to the whole response it came
/// with, other partitions' records included: after this long the partition is paused instead, which empties the queue.
const HELD_AFTER: Duration = Duration::from_secs(5);

/// Whether a partition is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flow {
    /// Its lane has room.
    Open,
    /// It has had none since then.
    Full(Instant),
    /// Kafka was told to stop. Since then it does not say where the partition ends.
    Held,
}

/// A partition whose lane has room.
struct Feed {
    lane: Arc<Lane>,
    queue: Arc<Queue>,
    records: usize,
    bytes: usize,
}

/// Carries out what the group wants and delivers what Kafka has, a turn of each partition. Returns how many records.
///
/// # Errors
/// What Kafka or librdkafka reports, of the group or of a partition.
pub(super) fn round(consumer: &Consumer, routing: &Routing) -> Result<usize, KafkaError> {
    // Records come by their partition's queue; here come rebalances, statistics and errors.
    match consumer.poll(Duration::ZERO) {
        None => {}
        Some(Err(error)) => return Err(error),
        Some(Ok(message)) => routing.gone_astray(&message),
    }
    let (mut delivered, mut result) = (0, Ok(()));
    for feed in routing.feeds(consumer) {
        match turn(&feed) {
            Ok(records) => delivered += records,
            Err(error) => result = Err(error),
        }
    }
    result.map(|()| delivered)
}

/// Delivers up to so many records, or bytes and one record more.
fn turn(feed: &Feed) -> Result<usize, KafkaError> {
    let (mut records, mut size, mut failure) = (Vec::new(), 0, None);
    while records.len() < feed.records.min(TURN) && size < feed.bytes {
        match feed.queue.poll(Duration::ZERO) {
            None => break,
            Some(Ok(message)) => {
                let record = owned(&feed.lane.source, &message);
                size += record.size();
                records.push(record);
            }
            Some(Err(error)) => {
                failure = Some(error);
                break;
            }
        }
    }
    let delivered = records.len();
    feed.lane.offer(records.into_iter());
    match failure {
        None => Ok(delivered),
        Some(error) => {
            // Whether it is passed over (a damaged batch) or never read again (an offset that is not there): what comes next
            // would not be what is wanted next. A seek reads it again, or fails, and then the partition is assigned anew.
            feed.lane.gone_astray();
            tracing::debug!(topic = &*feed.lane.source.topic, partition = feed.lane.source.partition,
                offset = feed.lane.seek_target(), %error, "a partition cannot be read; trying again from its last record");
            Err(error)
        }
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

/// Throws away what was delivered of a partition that was stopped or is gone.
pub(super) fn discard(queue: &Queue) {
    while queue.poll(Duration::ZERO).is_some() {}
}

impl Routing {
    /// Lanes with room. Those without are held back after a while, and let go once they have.
    fn feeds(&self, consumer: &Consumer) -> Vec<Feed> {
        let most = (self.settings.lane_max_records, self.settings.lane_max_bytes);
        let mut lanes = self.lanes.lock();
        lanes.iter_mut().filter_map(|(source, routed)| routed.feed(consumer, source, most)).collect()
    }
}

impl Routed {
    fn feed(&mut self, consumer: &Consumer, source: &TopicPartition, most: (usize, usize)) -> Option<Feed> {
        let (lane, queue) = (&self.lane, self.queue.as_ref()?);
        let room = lane.room(most.0, most.1);
        match (room, self.flow) {
            (Some(_), Flow::Open) | (None, Flow::Held) => {}
            (Some(_), Flow::Full(_)) => self.flow = Flow::Open,
            (Some(_), Flow::Held) => {
                report("resume a partition", consumer.resume(&one(source)));
                self.flow = Flow::Open;
                lane.set_held(false);
            }
            (None, Flow::Open) => self.flow = Flow::Full(Instant::now()),
            (None, Flow::Full(since)) if since.elapsed() < HELD_AFTER => {}
            (None, Flow::Full(_)) => {
                report("pause a partition", consumer.pause(&one(source)));
                discard(queue);
                // Much may have happened to the log by the time it is read again.
                lane.gone_astray();
                self.flow = Flow::Held;
                lane.set_held(true);
                tracing::info!(
                    topic = &*source.topic,
                    partition = source.partition,
                    "the lane has had no room for a while; Kafka is held back until it has"
                );
            }
        }
        let (records, bytes) = room?;
        Some(Feed { lane: lane.clone(), queue: queue.clone(), records, bytes })
    }
}

/// A list of one partition.
pub(super) fn one(source: &TopicPartition) -> TopicPartitionList {
    let mut list = TopicPartitionList::new();
    list.add_partition(&source.topic, source.partition);
    list
}
