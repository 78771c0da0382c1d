//! What the Kafka client says of itself.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
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
pub(crate) struct Complaints(Arc<Mutex<Said>>);

#[derive(Debug, Default)]
struct Said {
    /// Of what is being done.
    now: Option<String>,
    /// Of what was done before.
    before: Option<String>,
}

impl Complaints {
    /// The last complaint.
    pub(crate) fn last(&self) -> Option<String> {
        self.said().now.clone()
    }

    /// The last one, be it an old one: a client says the same again only after half a minute.
    pub(crate) fn last_ever(&self) -> Option<String> {
        let said = self.said();
        said.now.clone().or_else(|| said.before.clone())
    }

    /// Why `client` got no answer: its complaints wait in its queue until somebody polls, and a poll of no time at all would end
    /// at the first log line.
    pub(crate) fn why(client: &BaseConsumer<Self>, error: &KafkaError) -> String {
        while client.poll(Duration::from_millis(10)).is_some() {}
        client.context().last_ever().unwrap_or_else(|| error.to_string())
    }

    /// Forgets what was said so far: it was about something else.
    pub(crate) fn clear(&self) {
        let mut said = self.said();
        said.before = said.now.take().or_else(|| said.before.take());
    }

    /// An error that came in place of a record: it has fewer words than what the client says on its own.
    pub(crate) fn note(&self, error: &KafkaError) {
        self.said().now.get_or_insert_with(|| error.to_string());
    }

    fn said(&self) -> MutexGuard<'_, Said> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn keep(&self, text: &str) {
        self.said().now = Some(text.to_owned());
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
