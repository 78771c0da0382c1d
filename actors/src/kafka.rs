//! What every Kafka client of ours shares: its configuration and the way headers cross.

use std::panic::{AssertUnwindSafe, catch_unwind};

use rdkafka::{
    ClientConfig,
    message::{Header, Headers as _, OwnedHeaders},
};

use crate::{headers::Headers, settings::KafkaSettings};

/// A client configuration for `kafka`: ours first, the operator's over it.
pub(crate) fn client_config(kafka: &KafkaSettings, ours: &[(&str, &str)]) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", &kafka.brokers);
    // Reconnect soon: an outage's length should be the outage's, not the client's patience.
    config.set("reconnect.backoff.ms", "100");
    config.set("reconnect.backoff.max.ms", "2000");
    config.set("socket.keepalive.enable", "true");
    for (name, value) in ours {
        config.set(*name, *value);
    }
    for (name, value) in &kafka.properties {
        config.set(name, value);
    }
    config
}

impl Headers {
    /// The headers of a record read from Kafka. A header whose name is not UTF-8, which the protocol forbids and some
    /// clients write all the same, is kept as `invalid-header-N` without its value.
    pub fn from_kafka<M: rdkafka::Message>(message: &M) -> Self {
        let mut read = Self::new();
        let Some(headers) = message.headers() else { return read };
        for at in 0..headers.count() {
            // rdkafka panics on such a name; a record must never take the reader down with it.
            match catch_unwind(AssertUnwindSafe(|| headers.try_get(at))) {
                Ok(Some(header)) => read.push(header.key, header.value),
                Ok(None) => break,
                Err(_) => read.push(&format!("invalid-header-{at}"), None),
            }
        }
        read
    }

    /// The headers for a record to be written to Kafka.
    pub fn to_kafka(&self) -> OwnedHeaders {
        self.iter().fold(OwnedHeaders::new(), |headers, (key, value)| headers.insert(Header { key, value }))
    }
}
