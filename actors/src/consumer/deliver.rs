//! Takes what Kafka has delivered of each partition, as far as its lane has room.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use dead_letters::{Headers, Offset, TopicPartition, Whole, is_unreadable};
use rdkafka::{
    Message, Offset as KafkaOffset, consumer::Consumer as _, error::KafkaError, message::BorrowedMessage,
};

use super::{
    assignment::{AssignedPartition, Assignment, Backpressure},
    client::{Consumer, Queue, discard, one, report},
};
use crate::{
    lane::Lane,
    record::{Record, timestamp_ms},
};

/// Records of one partition delivered before it is another's turn.
const TURN: usize = 1_000;
/// A queue that nobody reads is refilled up to librdkafka's bounds, and each record in it may hold on to the whole response it came
/// with, other partitions' records included: after this long the partition is paused instead, which empties the queue.
const PAUSED_AFTER: Duration = Duration::from_secs(5);

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
/// What Kafka or librdkafka reports of the group. What it reports of a partition, its lane says.
pub(super) fn round(consumer: &Consumer, assignment: &Assignment) -> Result<usize, KafkaError> {
    // Records come by their partition's queue; here come rebalances, statistics and errors.
    match consumer.poll(Duration::ZERO) {
        None => {}
        Some(Err(error)) => return Err(error),
        Some(Ok(message)) => assignment.gone_astray(&message),
    }
    let record_max = assignment.settings.record_max_bytes;
    Ok(assignment.feeds(consumer).iter().map(|feed| turn(feed, record_max)).sum())
}

/// Delivers up to so many records, or bytes and one record more.
fn turn(feed: &Feed, record_max: usize) -> usize {
    let (mut records, mut size, mut failure) = (Vec::new(), 0, None);
    while records.len() < feed.records.min(TURN) && size < feed.bytes {
        match feed.queue.poll(Duration::ZERO) {
            None => break,
            Some(Ok(message)) => {
                let record = owned(&feed.lane.source, &message, record_max);
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
    if let Some(error) = failure {
        // Whether it is passed over (a damaged batch) or never read again (an offset that is not there): what comes next
        // would not be what is wanted next. A seek reads it again, or fails, and then the partition is assigned anew.
        feed.lane.cannot_read(&error.to_string(), is_unreadable(&error));
        tracing::debug!(topic = &*feed.lane.source.topic, partition = feed.lane.source.partition,
            offset = feed.lane.seek_target(), %error, "a partition cannot be read; trying again from its last record");
    }
    delivered
}

fn owned(source: &TopicPartition, message: &BorrowedMessage<'_>, record_max: usize) -> Record {
    let (key, value, headers) = (message.key(), message.payload(), Headers::from_kafka(message));
    let (key, value, headers) = match (Whole { key, value, headers: &headers }).within(record_max) {
        None => (key.map(Into::into), value.map(Into::into), headers),
        // What is in the topic stays there; the rest of it is not even copied.
        Some(cut) => (cut.key, cut.value, cut.headers),
    };
    Record {
        source: source.clone(),
        offset: Offset(message.offset()),
        timestamp_ms: timestamp_ms(message.timestamp()),
        key,
        value,
        headers,
    }
}

impl Assignment {
    /// Tells the lanes how far Kafka has delivered: past transactions' markers, which are no records. A position is known from the
    /// first delivery after a seek on, and moves when a delivery is taken: what lies below it has come here.
    pub(super) fn note_positions(&self, consumer: &Consumer) {
        let positions = match consumer.position() {
            Ok(positions) => positions,
            Err(error) => return tracing::debug!(group = self.group(), %error, "the positions are not known"),
        };
        for element in positions.elements() {
            let lane = self.lane(&TopicPartition::new(element.topic(), element.partition()));
            if let (Some(lane), KafkaOffset::Offset(offset)) = (lane, element.offset()) {
                lane.read_to(offset);
            }
        }
    }

    /// Lanes with room. The partitions of those without are paused after a while, and resumed once they have.
    fn feeds(&self, consumer: &Consumer) -> Vec<Feed> {
        let most = (self.settings.lane_max_records, self.settings.lane_max_bytes);
        let mut lanes = self.lanes.lock();
        lanes.iter_mut().filter_map(|(source, assigned)| assigned.feed(consumer, source, most)).collect()
    }
}

impl AssignedPartition {
    fn feed(&mut self, consumer: &Consumer, source: &TopicPartition, most: (usize, usize)) -> Option<Feed> {
        let (lane, queue) = (&self.lane, self.queue.as_ref()?);
        let room = lane.room(most.0, most.1);
        match (room, self.backpressure) {
            (Some(_), Backpressure::None) | (None, Backpressure::Paused) => {}
            (Some(_), Backpressure::Full(_)) => self.backpressure = Backpressure::None,
            (Some(_), Backpressure::Paused) => {
                report("resume a partition", consumer.resume(&one(source)));
                self.backpressure = Backpressure::None;
                lane.set_backpressured(false);
            }
            (None, Backpressure::None) => self.backpressure = Backpressure::Full(Instant::now()),
            (None, Backpressure::Full(since)) if since.elapsed() < PAUSED_AFTER => {}
            (None, Backpressure::Full(_)) => {
                report("pause a partition", consumer.pause(&one(source)));
                discard(queue);
                // Much may have happened to the log by the time it is read again.
                lane.gone_astray();
                self.backpressure = Backpressure::Paused;
                lane.set_backpressured(true);
                tracing::info!(
                    topic = &*source.topic,
                    partition = source.partition,
                    "lane full for 5 s, pausing the partition (backpressure)"
                );
            }
        }
        let (records, bytes) = room?;
        Some(Feed { lane: lane.clone(), queue: queue.clone(), records, bytes })
    }
}
