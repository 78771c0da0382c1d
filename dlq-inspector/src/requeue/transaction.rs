//! One batch, one Kafka transaction: records to the requeue topic and entries to the ledger, all or none.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

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

/// Why a batch was not written.
#[derive(Debug, Error)]
pub(super) enum NotWritten {
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

/// A record and its line in the ledger.
#[derive(Debug)]
pub(super) struct Put<'a> {
    pub(super) topic: &'a str,
    pub(super) partition: i32,
    pub(super) key: Option<&'a [u8]>,
    pub(super) value: Option<&'a [u8]>,
    pub(super) headers: &'a Headers,
    pub(super) entry: &'a Entry,
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

/// The one writer of a group's requeues: a second one fences the first.
pub(super) struct Writer {
    producer: ThreadedProducer<Reasons>,
    reasons: Reasons,
}

impl Writer {
    /// Takes the group over. Whatever its former writer had open is decided when this returns.
    pub(super) fn take_over(kafka: &Kafka, group: &str) -> anyhow::Result<Self> {
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
            let what = format!("taking over the requeues of group {group} (transactional id {id}): {error}");
            match &error {
                KafkaError::Transaction(cause) if cause.is_retriable() => kafka.unreachable(what).into(),
                _ => anyhow::anyhow!(what),
            }
        })?;
        Ok(Self { producer, reasons })
    }

    /// Writes all of `puts`, or none.
    pub(super) fn write(&self, puts: &[Put<'_>]) -> Result<(), NotWritten> {
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
            let mut record: BaseRecord<'_, [u8], [u8]> =
                BaseRecord::to(put.topic).partition(put.partition).headers(put.headers.to_kafka());
            record.key = put.key;
            record.payload = put.value;
            self.send(record)?;
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
