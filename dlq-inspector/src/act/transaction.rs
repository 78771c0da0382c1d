//! One batch, one Kafka transaction: entries to the ledger, and records to other topics that go with them, all or none.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use dead_letters::{ACTIONS_TOPIC, Entry, Headers};
use rdkafka::{
    ClientContext,
    config::RDKafkaLogLevel,
    error::KafkaError,
    message::DeliveryResult,
    producer::{BaseRecord, Producer, ProducerContext, ThreadedProducer},
    types::RDKafkaErrorCode,
};
use thiserror::Error;

use crate::kafka::Kafka;

/// How long brokers keep a transaction open whose operator is gone.
pub(super) const TRANSACTION_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a call waits for the brokers; longer than a transaction can live.
const PATIENCE: Duration = Duration::from_secs(20);

/// Why a batch, or one of it, was not written.
#[derive(Clone, Debug, Error)]
pub enum NotWritten {
    /// Another operator took the group over; nothing of the batch was written.
    #[error("another operator took over")]
    Fenced,
    /// The brokers refused it; nothing of the batch was written.
    #[error("{0}")]
    Refused(String),
    /// Whether it was written is not known.
    #[error("{0}")]
    Unknown(String),
}

/// A record for another topic.
#[derive(Debug)]
pub struct Record<'a> {
    /// The topic.
    pub topic: &'a str,
    /// The partition there.
    pub partition: i32,
    /// The key.
    pub key: Option<&'a [u8]>,
    /// The body.
    pub value: Option<&'a [u8]>,
    /// The headers.
    pub headers: &'a Headers,
}

/// A line of the ledger, and the record that goes with it.
#[derive(Debug)]
pub struct Put<'a> {
    /// The record, if there is one.
    pub record: Option<Record<'a>>,
    /// The line.
    pub entry: &'a Entry,
}

/// Keeps the first reason the brokers gave.
#[derive(Clone, Debug, Default)]
struct Reasons(Arc<Mutex<Option<String>>>);

impl Reasons {
    fn keep(&self, reason: String) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(reason);
    }

    fn take(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl ClientContext for Reasons {
    fn log(&self, _: RDKafkaLogLevel, _: &str, _: &str) {}

    fn error(&self, _: KafkaError, _: &str) {}
}

impl ProducerContext for Reasons {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        // What a transaction drops because of another error says nothing new.
        if let Err((error, _)) = result
            && error.rdkafka_error_code() != Some(RDKafkaErrorCode::PurgeQueue)
        {
            self.keep(error.to_string());
        }
    }
}

/// The one writer of what is done with a group's letters: a second one fences the first.
pub struct Writer {
    producer: ThreadedProducer<Reasons>,
    reasons: Reasons,
}

/// Writes a line that is about no letter: nobody's transactional id is taken over, so it stops no other operator.
///
/// # Errors
/// When the brokers refuse it, or do not say in time that they have it.
pub fn append(kafka: &Kafka, entry: &Entry) -> anyhow::Result<()> {
    kafka.partitions(ACTIONS_TOPIC).with_context(|| {
        format!("the ledger {ACTIONS_TOPIC} does not exist; a service creates it when it starts")
    })?;
    let reasons = Reasons::default();
    let producer: ThreadedProducer<Reasons> = kafka.client(
        reasons.clone(),
        &[
            ("enable.idempotence", "true"),
            ("linger.ms", "0"),
            // As for letters, so that the lines of one key share a partition.
            ("partitioner", "murmur2_random"),
        ],
    )?;
    let (key, line) = (entry.dlq_id.to_string(), serde_json::to_vec(entry)?);
    producer.send(BaseRecord::to(ACTIONS_TOPIC).key(&key).payload(&line)).map_err(|(error, _)| error)?;
    let flushed = producer.flush(PATIENCE);
    match (reasons.take(), flushed) {
        (Some(why), _) => anyhow::bail!("it was not written: {why}"),
        (None, Ok(())) => Ok(()),
        (None, Err(error)) => {
            Err(kafka.unreachable(format!("it is not known whether it was written: {error}")).into())
        }
    }
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writer").finish_non_exhaustive()
    }
}

impl Writer {
    /// Takes the group over. Whatever its former writer had open is decided when this returns.
    ///
    /// # Errors
    /// When the brokers do not let it, or do not answer.
    pub fn take_over(kafka: &Kafka, group: &str) -> anyhow::Result<Self> {
        let reasons = Reasons::default();
        let id = format!("dlq-inspector.{group}");
        let timeout = TRANSACTION_TIMEOUT.as_millis().to_string();
        let producer: ThreadedProducer<Reasons> = kafka.client(
            reasons.clone(),
            &[
                ("transactional.id", &id),
                ("transaction.timeout.ms", &timeout),
                ("compression.type", "lz4"),
                ("linger.ms", "1"),
                // As the groups' own producers have it, so that a letter's lines share a partition.
                ("partitioner", "murmur2_random"),
                // The topic decides how large a record may be; what could be read back can be sent.
                ("message.max.bytes", "100000000"),
            ],
        )?;
        producer.init_transactions(PATIENCE).map_err(|error| {
            let what =
                format!("taking over the dead letters of group {group} (transactional id {id}): {error}");
            match &error {
                KafkaError::Transaction(cause) if cause.is_retriable() => kafka.unreachable(what).into(),
                _ => anyhow::anyhow!(what),
            }
        })?;
        Ok(Self { producer, reasons })
    }

    /// Writes `puts` in one transaction. When the brokers refuse it, they are written one by one, so that only the one to blame,
    /// such as one that is too large, is left behind. Says of each in turn how it ended; where it stops early, nothing was written
    /// of the rest.
    pub fn write(&self, puts: &[Put<'_>]) -> Vec<Result<(), NotWritten>> {
        match self.write_all(puts) {
            Ok(()) => puts.iter().map(|_| Ok(())).collect(),
            Err(NotWritten::Refused(_)) if puts.len() > 1 => {
                let mut results = Vec::new();
                for put in puts {
                    let result = self.write_all(std::slice::from_ref(put));
                    let over = matches!(result, Err(NotWritten::Fenced | NotWritten::Unknown(_)));
                    results.push(result);
                    if over {
                        break;
                    }
                }
                results
            }
            Err(NotWritten::Unknown(why)) => {
                puts.iter().map(|_| Err(NotWritten::Unknown(why.clone()))).collect()
            }
            Err(other) => vec![Err(other)],
        }
    }

    /// Writes all of `puts`, or none.
    fn write_all(&self, puts: &[Put<'_>]) -> Result<(), NotWritten> {
        let begun = Instant::now();
        let result = self.attempt(puts, begun);
        let Err(error) = result else {
            self.reasons.take();
            return Ok(());
        };
        let why = self.reasons.take().unwrap_or_else(|| error.to_string());
        if self.is_fenced(&error) {
            // The brokers give a transaction up with the same word when it outlives its time.
            let late = begun.elapsed() >= TRANSACTION_TIMEOUT;
            let why = format!("the transaction took longer than {} s", TRANSACTION_TIMEOUT.as_secs());
            return Err(if late { NotWritten::Unknown(why) } else { NotWritten::Fenced });
        }
        match self.producer.abort_transaction(PATIENCE) {
            Ok(()) => Err(NotWritten::Refused(why)),
            Err(error) if self.is_fenced(&error) => Err(NotWritten::Fenced),
            Err(error) => Err(NotWritten::Unknown(format!("{why}; then aborting failed: {error}"))),
        }
    }

    fn attempt(&self, puts: &[Put<'_>], begun: Instant) -> Result<(), KafkaError> {
        self.producer.begin_transaction()?;
        for put in puts {
            if let Some(Record { topic, partition, key, value, headers }) = &put.record {
                let record = BaseRecord::to(topic).partition(*partition).headers(headers.to_kafka());
                let mut record: BaseRecord<'_, [u8], [u8]> = record;
                record.key = *key;
                record.payload = *value;
                self.send(record)?;
            }
            let key = put.entry.dlq_id.to_string();
            let line = serde_json::to_vec(put.entry).map_err(|_| KafkaError::Canceled)?;
            let record: BaseRecord<'_, [u8], [u8]> =
                BaseRecord::to(ACTIONS_TOPIC).key(key.as_bytes()).payload(line.as_slice());
            self.send(record)?;
        }
        loop {
            match self.producer.commit_transaction(PATIENCE) {
                Err(KafkaError::Transaction(error)) if error.is_retriable() && begun.elapsed() < PATIENCE => {
                }
                other => return other,
            }
        }
    }

    fn send(&self, mut record: BaseRecord<'_, [u8], [u8]>) -> Result<(), KafkaError> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.producer.send(record) {
                Ok(()) => return Ok(()),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back))
                    if Instant::now() < deadline =>
                {
                    record = back;
                    self.producer.poll(Duration::from_millis(20));
                }
                Err((error, _)) => return Err(error),
            }
        }
    }

    fn is_fenced(&self, error: &KafkaError) -> bool {
        let code = match error {
            KafkaError::Transaction(error) => Some(error.code()),
            other => other.rdkafka_error_code(),
        };
        let fatal = self.producer.client().fatal_error().map(|(code, _)| code);
        [code, fatal].into_iter().flatten().any(|code| {
            matches!(
                code,
                RDKafkaErrorCode::Fenced
                    | RDKafkaErrorCode::ProducerFenced
                    | RDKafkaErrorCode::InvalidProducerEpoch
            )
        })
    }
}
