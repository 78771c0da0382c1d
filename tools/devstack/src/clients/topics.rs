//! Asking and feeding Kafka directly: which partition a key goes to, how far a topic is, records of any kind.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context, Result, anyhow, bail, ensure};
use dead_letters::{Given, KafkaSettings, Span, TopicReader};
use rdkafka::{
    message::{BorrowedMessage, Header, OwnedHeaders},
    producer::{FutureProducer, FutureRecord},
};

use crate::servers::kafka::client;

const LIMIT: Duration = Duration::from_secs(10);

/// The partition of `partitions` that the producers' partitioner, murmur2 as Java clients have it, chooses for `key`.
pub fn partition_of(key: &[u8], partitions: i32) -> i32 {
    let hash = murmur2(key) & 0x7fff_ffff;
    i32::try_from(hash).unwrap_or_default() % partitions
}

/// MurmurHash2, 32 bits, with the seed of Kafka's clients.
fn murmur2(data: &[u8]) -> u32 {
    const M: u32 = 0x5bd1_e995;
    let length = u32::try_from(data.len()).unwrap_or(u32::MAX);
    let mut hash = 0x9747_b28c ^ length;
    let mut chunks = data.chunks_exact(4);
    for chunk in &mut chunks {
        let mut k = chunk.iter().rev().fold(0, |word, byte| word << 8 | u32::from(*byte)).wrapping_mul(M);
        k ^= k >> 24;
        hash = hash.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    let rest = chunks.remainder();
    if !rest.is_empty() {
        hash ^= rest.iter().rev().fold(0, |word, byte| word << 8 | u32::from(*byte));
        hash = hash.wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    hash ^ hash >> 15
}

/// A record to publish, as it is.
#[derive(Clone, Debug, Default)]
pub struct Produced<'a> {
    /// The key; without one the record goes to any partition.
    pub key: Option<&'a str>,
    /// The value; without one it is a tombstone.
    pub value: Option<&'a [u8]>,
    /// The headers, in order.
    pub headers: Vec<(&'a str, &'a [u8])>,
    /// The partition, in place of the one that the key goes to.
    pub partition: Option<i32>,
    /// `compression.type` of the producer; empty for its default.
    pub compression: &'a str,
}

/// Publishes a record and waits until it is acknowledged: its partition and offset.
pub async fn produce(brokers: &str, topic: &str, produced: &Produced<'_>) -> Result<(i32, i64)> {
    let mut config = client(brokers);
    config.set("partitioner", "murmur2_random").set("enable.idempotence", "true");
    // What is too large is for the broker to say: it looks at what was compressed.
    config.set("message.max.bytes", "67108864");
    if !produced.compression.is_empty() {
        config.set("compression.type", produced.compression);
    }
    let producer: FutureProducer = config.create().context("no producer can be made")?;
    let mut record = FutureRecord::<str, [u8]>::to(topic);
    record.key = produced.key;
    record.payload = produced.value;
    record.partition = produced.partition;
    if !produced.headers.is_empty() {
        let mut headers = OwnedHeaders::new();
        for (key, value) in &produced.headers {
            headers = headers.insert(Header { key, value: Some(*value) });
        }
        record = record.headers(headers);
    }
    let sent = producer.send(record, LIMIT).await;
    let delivery =
        sent.map_err(|(error, _)| anyhow!(error)).with_context(|| format!("not published to {topic}"))?;
    Ok((delivery.partition, delivery.offset))
}

/// The same of a key and a value alone.
pub async fn publish(brokers: &str, topic: &str, key: &str, value: Option<&[u8]>) -> Result<(i32, i64)> {
    produce(brokers, topic, &Produced { key: Some(key), value, ..Produced::default() }).await
}

/// Every topic, Kafka's own included, with the number of its partitions. Blocks.
pub fn partitions(brokers: &str) -> Result<BTreeMap<String, usize>> {
    reader(brokers)?.topics().context("Kafka does not say which topics it has")
}

/// A partition and how far it goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extent {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The first offset still there.
    pub low: i64,
    /// One past the last that a reader of committed records can see.
    pub high: i64,
}

/// The same, where every partition has to answer.
pub fn extents(brokers: &str, topics: &[String]) -> Result<Vec<Extent>> {
    audit::reach(&kafka(brokers), topics)?
        .into_iter()
        .map(|((topic, partition), answer)| {
            let (low, high) = answer.with_context(|| format!("{topic}/{partition} does not answer"))?;
            Ok(Extent { topic, partition, low, high })
        })
        .collect()
}

/// How many records a reader of committed records finds from `from` to the end. Blocks. The end of a topic with transactions
/// is made of markers that no reader is given: an offset before the end is not yet a record.
pub fn records_from(brokers: &str, topic: &str, partition: i32, from: i64) -> Result<i64> {
    let mut reader = reader(brokers)?;
    let (low, high) = reader.extent(topic, partition)?;
    ensure!((low..=high).contains(&from), "{topic}/{partition} has no offset {from}");
    reader.open(topic, [Span { partition, from: Some(from), upto: None }])?;
    let mut count = 0;
    each(&mut reader, topic, |_| count += 1)?;
    Ok(count)
}

/// Gives every record of what a reader has open in `topic`, to the end. What cannot be read ends it.
pub(crate) fn each(
    reader: &mut TopicReader,
    topic: &str,
    mut take: impl FnMut(&BorrowedMessage<'_>),
) -> Result<()> {
    let mut unread = None;
    reader.to_end(|given| match given {
        Given::Record(record) => {
            take(record);
            true
        }
        Given::Unread(one) => {
            unread = Some(one);
            false
        }
    })?;
    match unread {
        Some(unread) => bail!("{topic}/{} {unread}", unread.partition),
        None => Ok(()),
    }
}

/// The Kafka at `brokers`.
pub(crate) fn kafka(brokers: &str) -> KafkaSettings {
    KafkaSettings { brokers: brokers.to_owned(), properties: Vec::new() }
}

/// A reader of whole topics.
pub(crate) fn reader(brokers: &str) -> Result<TopicReader> {
    Ok(TopicReader::new(&kafka(brokers), "devstack", LIMIT)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_the_one_of_kafkas_clients() {
        // Values of org.apache.kafka.common.utils.Utils.murmur2, from its own test.
        for (text, hash) in [
            ("21", -973_932_308),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
        ] {
            assert_eq!(murmur2(text.as_bytes()).cast_signed(), hash, "{text}");
        }
    }
}
