//! Going through a partition again, past what Kafka cannot give.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use dead_letters::{KafkaSettings, batch_named, end_of_batch, is_unreadable};
use rdkafka::{
    ClientContext, Message, Offset, TopicPartitionList,
    config::RDKafkaLogLevel,
    consumer::{BaseConsumer, Consumer, ConsumerContext},
    error::KafkaError,
    message::BorrowedMessage,
    types::RDKafkaErrorCode,
};

use crate::topics::reading;

/// A partition that gives neither a record nor its end for this long does not answer.
pub(crate) const STALLED: Duration = Duration::from_secs(15);

/// What a partition gives.
pub(crate) enum Given<'a> {
    /// A record.
    Record(&'a BorrowedMessage<'a>),
    /// Offsets whose records cannot be read.
    Unread(Unread),
}

/// Offsets whose records cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unread {
    pub(crate) from: i64,
    pub(crate) upto: i64,
    pub(crate) why: String,
}

/// Keeps what the client said last: of a batch that cannot be read, that is where it begins.
#[derive(Debug, Default)]
struct Said(Mutex<Option<String>>);

impl ClientContext for Said {
    fn log(&self, _level: RDKafkaLogLevel, _facility: &str, _message: &str) {}

    fn error(&self, error: KafkaError, reason: &str) {
        if error.rdkafka_error_code() != Some(RDKafkaErrorCode::AllBrokersDown) {
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(reason.to_owned());
        }
    }
}

impl ConsumerContext for Said {}

/// How going through a partition came to a stop.
enum Stop {
    /// The visitor has enough, or all was handed over.
    Done,
    /// A batch cannot be read.
    Bad { batch: Option<i64>, why: String },
}

/// Goes through partitions, one after the other.
pub(crate) struct Visitor(BaseConsumer<Said>);

impl Visitor {
    pub(crate) fn new(kafka: &KafkaSettings) -> Result<Self> {
        let mut config = reading(kafka);
        // What retention deletes while it is read is no error: the offsets are told apart afterwards.
        config.set("auto.offset.reset", "earliest").set("fetch.wait.max.ms", "5");
        config.set("queued.max.messages.kbytes", "16384").set("fetch.error.backoff.ms", "20");
        Ok(Self(config.create_with_context(Said::default()).context("no consumer can be made")?))
    }

    /// The first offset that a partition still has.
    pub(crate) fn low(&self, topic: &str, partition: i32) -> Result<i64> {
        let (low, _) = self
            .0
            .fetch_watermarks(topic, partition, STALLED)
            .context("Kafka does not say where a partition begins")?;
        Ok(low)
    }

    /// The partitions of a topic.
    pub(crate) fn partitions(&self, topic: &str) -> Result<Vec<i32>> {
        let metadata = self.0.fetch_metadata(Some(topic), STALLED);
        let metadata = metadata.with_context(|| format!("Kafka does not say where {topic} is"))?;
        Ok(metadata.topics().iter().flat_map(|topic| topic.partitions()).map(|one| one.id()).collect())
    }

    /// Hands what a partition holds from offset `from`, or its beginning, to `visit`, in order, until it says `false`, `upto` is reached
    /// or the partition ends. False if `visit` said so.
    ///
    /// # Errors
    /// When Kafka as a whole does not answer.
    pub(crate) fn visit(
        &self,
        topic: &str,
        partition: i32,
        from: Option<i64>,
        upto: i64,
        mut visit: impl FnMut(Given<'_>) -> bool,
    ) -> Result<bool> {
        // A client that does not know the topic's broker takes most of a second to find out by itself.
        self.partitions(topic)?;
        let mut at = from.unwrap_or_default();
        let mut wanted = true;
        let mut through = || -> Result<()> {
            let (low, high) = self.0.fetch_watermarks(topic, partition, STALLED)?;
            at = from.unwrap_or(low);
            let end = upto.min(high);
            loop {
                self.seek(topic, partition, at)?;
                let stop = self.run(|message| {
                    at = message.offset() + 1;
                    wanted = visit(Given::Record(message));
                    wanted && at < upto
                })?;
                let Stop::Bad { batch, why } = stop else { return Ok(()) };
                let bad = at.max(batch.unwrap_or_default());
                at = bad;
                let past = end_of_batch::<anyhow::Error>(bad, end, |offset| {
                    self.seek(topic, partition, offset)?;
                    Ok(match self.run(|_| false)? {
                        Stop::Bad { batch: other, .. } => other != batch,
                        Stop::Done => true,
                    })
                })?;
                at = past;
                wanted = visit(Given::Unread(Unread { from: bad, upto: past, why }));
                if !wanted || at >= end {
                    return Ok(());
                }
            }
        };
        if let Err(error) = through() {
            // Kafka as a whole answers, as it did before: it is this partition.
            self.partitions(topic)?;
            wanted = visit(Given::Unread(Unread { from: at, upto: upto.max(at), why: format!("{error:#}") }));
        }
        self.0.unassign().with_context(|| format!("{topic} cannot be let go"))?;
        Ok(wanted)
    }

    fn seek(&self, topic: &str, partition: i32, offset: i64) -> Result<()> {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, partition, Offset::Offset(offset))?;
        self.0.assign(&list).with_context(|| format!("{topic}/{partition} cannot be read"))
    }

    /// Hands records over until `visit` has enough, the partition ends, or a batch cannot be read.
    fn run(&self, mut visit: impl FnMut(&BorrowedMessage<'_>) -> bool) -> Result<Stop> {
        let mut progress = Instant::now();
        loop {
            match self.0.poll(Duration::from_millis(200)) {
                Some(Ok(message)) => {
                    progress = Instant::now();
                    if !visit(&message) {
                        return Ok(Stop::Done);
                    }
                }
                Some(Err(KafkaError::PartitionEOF(_))) => return Ok(Stop::Done),
                Some(Err(error)) if is_unreadable(&error) => {
                    let why = self.said().unwrap_or_else(|| error.to_string());
                    return Ok(Stop::Bad { batch: batch_named(&why), why });
                }
                // A broker that comes back answers soon; one that does not ends in the stall below.
                Some(Err(_)) | None => {}
            }
            if progress.elapsed() > STALLED {
                let why = self.said().unwrap_or_else(|| "nobody says why".into());
                bail!("it gives neither a record nor its end for {STALLED:?}: {why}");
            }
        }
    }

    fn said(&self) -> Option<String> {
        self.0.context().0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
