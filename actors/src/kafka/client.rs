//! A client that asks brokers for metadata.

use std::time::Duration;

use dead_letters::{KafkaSettings, client_config};
use parking_lot::Mutex;
use rdkafka::{
    ClientContext,
    consumer::{Consumer, ConsumerContext},
    error::KafkaError,
    metadata::Metadata,
    types::RDKafkaErrorCode,
};

use super::renewed::Renewed;
use crate::failure::Cause;

/// A client's complaints wait in its queue until somebody polls; a poll of no time at all would end at the first log line.
const COMPLAINTS_READ: Duration = Duration::from_millis(10);

/// Asks brokers for metadata, and knows why when none gives it.
#[derive(Clone)]
pub(crate) struct MetadataClient(Renewed<Complaint>);

impl MetadataClient {
    pub(crate) fn new(kafka: &KafkaSettings) -> Result<Self, Cause> {
        Renewed::new(client_config(kafka, &[])).map(Self)
    }

    /// The metadata of all topics. The client keeps trying for all of `limit`: what it says of a broker's refusal then is
    /// no passing trouble.
    ///
    /// # Errors
    /// `kafka-refused` when brokers do not let us in or cannot be trusted, `kafka-unreachable` when none answers.
    pub(crate) async fn fetch(&self, limit: Duration) -> Result<Metadata, Cause> {
        let client = self.0.clone();
        // librdkafka's call blocks its thread.
        let fetch = tokio::task::spawn_blocking(move || {
            client.ask(|client| {
                client.fetch_metadata(None, limit).map_err(|error| {
                    while client.poll(COMPLAINTS_READ).is_some() {}
                    client.context().explain(error)
                })
            })
        });
        fetch.await.map_err(|error| Cause::from_error("metadata-task", &error))?
    }
}

/// What a client last complained about.
#[derive(Default)]
struct Complaint(Mutex<Option<(RDKafkaErrorCode, String)>>);

impl Complaint {
    fn explain(&self, error: KafkaError) -> Cause {
        match &*self.0.lock() {
            Some((RDKafkaErrorCode::Authentication | RDKafkaErrorCode::SSL, reason)) => Cause::new(
                "kafka-refused",
                format!("{reason}; check the security.*, sasl.* and ssl.* properties given for Kafka"),
            ),
            Some((_, reason)) => Cause::new("kafka-unreachable", reason.clone()),
            None => Cause::from_error("kafka-unreachable", &error),
        }
    }
}

impl ClientContext for Complaint {
    fn error(&self, error: KafkaError, reason: &str) {
        match error.rdkafka_error_code() {
            // It follows the reason and has none of its own.
            None | Some(RDKafkaErrorCode::AllBrokersDown) => {}
            // When the handshake ends within the call that opens the connection, librdkafka takes it for the transport's fault.
            Some(_) if reason.contains("certificate verify failed") => {
                *self.0.lock() = Some((RDKafkaErrorCode::SSL, reason.to_owned()));
            }
            Some(code) => *self.0.lock() = Some((code, reason.to_owned())),
        }
    }
}

impl ConsumerContext for Complaint {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_cannot_be_trusted_is_not_merely_out_of_reach() {
        for (code, reason, expected) in [
            (RDKafkaErrorCode::BrokerTransportFailure, "connection refused", "kafka-unreachable"),
            (RDKafkaErrorCode::Authentication, "SASL: Authentication failed", "kafka-refused"),
            (RDKafkaErrorCode::SSL, "SSL handshake failed", "kafka-refused"),
            (
                RDKafkaErrorCode::BrokerTransportFailure,
                "error:0A000086:SSL routines::certificate verify failed",
                "kafka-refused",
            ),
        ] {
            let complaint = Complaint::default();
            complaint.error(KafkaError::Global(code), reason);
            let cause = complaint.explain(KafkaError::Canceled);
            assert_eq!(cause.code, expected, "{reason}");
        }
    }
}
