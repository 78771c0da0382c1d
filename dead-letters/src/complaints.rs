//! What the Kafka client says of itself.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use rdkafka::{
    ClientContext,
    config::RDKafkaLogLevel,
    consumer::{BaseConsumer, Consumer, ConsumerContext},
    error::KafkaError,
    types::RDKafkaErrorCode,
};

/// Keeps what a client last complained about, to be told when something fails, and prints nothing itself.
#[derive(Clone, Debug, Default)]
pub(crate) struct Complaints(Arc<Mutex<Option<String>>>);

impl Complaints {
    /// The last complaint.
    pub(crate) fn last(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Why `client` got no answer: its complaints wait in its queue until somebody polls, and a poll of no time at all would end
    /// at the first log line.
    pub(crate) fn why(client: &BaseConsumer<Self>, error: &KafkaError) -> String {
        while client.poll(Duration::from_millis(10)).is_some() {}
        client.context().last().unwrap_or_else(|| error.to_string())
    }

    /// Forgets what was said so far: it was about something else.
    pub(crate) fn clear(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// An error that came in place of a record: it has fewer words than what the client says on its own.
    pub(crate) fn note(&self, error: &KafkaError) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.get_or_insert_with(|| error.to_string());
    }

    fn keep(&self, text: &str) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(text.to_owned());
    }
}

impl ClientContext for Complaints {
    fn log(&self, level: RDKafkaLogLevel, _facility: &str, message: &str) {
        if (level as i32) <= RDKafkaLogLevel::Error as i32 {
            self.keep(message);
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        // That all brokers are down follows the reason and has none of its own.
        if error.rdkafka_error_code() != Some(RDKafkaErrorCode::AllBrokersDown) {
            self.keep(reason);
        }
    }
}

impl ConsumerContext for Complaints {}
