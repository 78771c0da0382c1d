//! How to reach Kafka, and what every client of ours sets.

use std::fmt;

use rdkafka::{ClientConfig, error::KafkaError, types::RDKafkaConfRes};
use thiserror::Error;

/// How to reach Kafka.
#[derive(Clone, Default)]
pub struct KafkaSettings {
    /// `host:port`, comma-separated.
    pub brokers: String,
    /// librdkafka properties laid over ours, such as `security.protocol`; of equal names the last one counts.
    pub properties: Vec<(String, String)>,
}

/// A librdkafka property that cannot be used. Its value is never shown: it may be a password.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum PropertyError {
    /// A line, counted from 1, is no pair.
    #[error("line {0} is not name=value")]
    Malformed(usize),
    /// There is no property of this name.
    #[error("librdkafka has no property {0}, or was built without it")]
    Unknown(String),
    /// The value is not one that this property can have.
    #[error("librdkafka does not take the value given for {0}")]
    Invalid(String),
}

impl KafkaSettings {
    /// Reads properties from text, `name=value` a line; empty lines and those that begin with `#` are left out.
    ///
    /// # Errors
    /// When a line is something else.
    pub fn read_properties(text: &str) -> Result<Vec<(String, String)>, PropertyError> {
        let lines = text.lines().map(str::trim).zip(1..);
        lines
            .filter(|(line, _)| !line.is_empty() && !line.starts_with('#'))
            .map(|(line, number)| match line.split_once('=') {
                Some((name, value)) if !name.trim().is_empty() => {
                    Ok((name.trim().to_owned(), value.trim().to_owned()))
                }
                _ => Err(PropertyError::Malformed(number)),
            })
            .collect()
    }

    /// Asks librdkafka whether it takes every property. Its own errors, when a client is created, repeat the value.
    ///
    /// # Errors
    /// The first one that is refused.
    pub fn check(&self) -> Result<(), PropertyError> {
        for (name, value) in &self.properties {
            let mut one = ClientConfig::new();
            one.set(name, value);
            match one.create_native_config().map(drop) {
                Ok(()) => {}
                Err(KafkaError::ClientConfig(RDKafkaConfRes::RD_KAFKA_CONF_UNKNOWN, ..)) => {
                    return Err(PropertyError::Unknown(name.clone()));
                }
                Err(_) => return Err(PropertyError::Invalid(name.clone())),
            }
        }
        Ok(())
    }
}

impl fmt::Debug for KafkaSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.properties.iter().map(|(name, _)| name).collect();
        f.debug_struct("KafkaSettings").field("brokers", &self.brokers).field("properties", &names).finish()
    }
}

/// A client configuration for `kafka`: ours first, the operator's over it.
pub fn client_config(kafka: &KafkaSettings, ours: &[(&str, &str)]) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", &kafka.brokers);
    // Reconnect soon: an outage's length should be the outage's, not the client's patience.
    config.set("reconnect.backoff.ms", "100");
    config.set("reconnect.backoff.max.ms", "2000");
    // A broker that dies while it comes up may leave a request without an answer: the default waits a minute for it.
    config.set("socket.timeout.ms", "10000");
    config.set("socket.connection.setup.timeout.ms", "5000");
    config.set("socket.keepalive.enable", "true");
    // An OpenSSL that was not built by the system does not know where the system keeps its authorities.
    config.set("ssl.ca.location", "probe");
    for (name, value) in ours {
        config.set(*name, *value);
    }
    for (name, value) in &kafka.properties {
        config.set(name, value);
    }
    config
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kafka(text: &str) -> KafkaSettings {
        let properties = KafkaSettings::read_properties(text).expect("pairs");
        KafkaSettings { properties, ..KafkaSettings::default() }
    }

    #[test]
    fn a_file_of_properties_has_pairs_comments_and_empty_lines() {
        let read = KafkaSettings::read_properties("# ours\n\n a.b = c \r\nsasl.password=x=#y\n");
        let pairs = [("a.b", "c"), ("sasl.password", "x=#y")].map(|(k, v)| (k.to_owned(), v.to_owned()));
        assert_eq!(read, Ok(pairs.to_vec()));
        for text in ["a=b\n\nsecret", "a=b\n\n=secret"] {
            assert_eq!(KafkaSettings::read_properties(text), Err(PropertyError::Malformed(3)), "{text}");
        }
    }

    #[test]
    fn what_librdkafka_refuses_is_named_and_its_value_is_not_told() {
        let secured = "security.protocol=SASL_SSL\nsasl.mechanisms=SCRAM-SHA-512\nsasl.password=secret";
        assert_eq!(kafka(secured).check(), Ok(()));
        assert_eq!(kafka("sasl.pasword=secret").check(), Err(PropertyError::Unknown("sasl.pasword".into())));
        let invalid = kafka("client.id=a\nsecurity.protocol=secret");
        assert_eq!(invalid.check(), Err(PropertyError::Invalid("security.protocol".into())));
        assert!(!format!("{invalid:?}").contains("secret"));
    }
}
