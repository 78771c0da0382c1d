//! Where Kafka is, and how it is talked to.

use std::{path::PathBuf, time::Duration};

use anyhow::Context as _;
use clap::Args;
use dead_letters::KafkaSettings;
use rdkafka::{ClientConfig, config::RDKafkaLogLevel};

use crate::{exit::Problem, time::duration};

/// Where Kafka is and how to talk to it.
#[derive(Clone, Debug, Args)]
pub struct Connection {
    /// host:port, comma-separated
    #[arg(short, long, env = "KAFKA_BROKERS", global = true)]
    pub brokers: Option<String>,
    /// A client property such as security.protocol=SASL_SSL; may repeat, and wins over --config
    // Read later than the rest: an error of the command line would repeat it, passwords and all.
    #[arg(short = 'X', value_name = "KEY=VALUE", global = true)]
    pub properties: Vec<String>,
    /// Properties as k=v,k=v, under those of -X
    #[arg(long, env = "KAFKA_PROPERTIES", global = true, hide = true, hide_env_values = true)]
    pub kafka_properties: Option<String>,
    /// A file of client properties, one KEY=VALUE a line, # for comments
    #[arg(long, value_name = "FILE", global = true)]
    pub config: Option<PathBuf>,
    /// How long to wait for the first answer of a broker
    #[arg(long, value_name = "DURATION", default_value = "10s", global = true, value_parser = duration)]
    pub connect_timeout: Duration,
}

/// The common configuration: ours, then the file, then KAFKA_PROPERTIES, then `-X`, then `--brokers`.
pub(super) fn client_config(connection: &Connection) -> anyhow::Result<ClientConfig> {
    let mut config = ClientConfig::new();
    config.set("client.id", "dlq-inspector");
    // No group is joined and nothing is committed; the library wants a name to hand out partitions by.
    config.set("group.id", "dlq-inspector");
    config.set("reconnect.backoff.ms", "50").set("reconnect.backoff.max.ms", "1000");
    // An OpenSSL that was not built by the system does not know where the system keeps its authorities.
    config.set("ssl.ca.location", "probe");
    config.set_log_level(RDKafkaLogLevel::Error);

    for (name, value) in given(connection)? {
        let name = if name == "metadata.broker.list" { "bootstrap.servers".to_owned() } else { name };
        config.set(name, value);
    }
    if let Some(brokers) = &connection.brokers {
        config.set("bootstrap.servers", brokers);
    }
    if config.get("bootstrap.servers").is_none_or(str::is_empty) {
        return Err(
            Problem::Usage("where is Kafka? give --brokers host:port or set KAFKA_BROKERS".into()).into()
        );
    }
    Ok(config)
}

/// What the operator gave, the strongest last. No error repeats a value: it may be a password.
fn given(connection: &Connection) -> anyhow::Result<Vec<(String, String)>> {
    let mut given = Vec::new();
    if let Some(path) = &connection.config {
        let text = std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
        let read = KafkaSettings::read_properties(&text);
        given.extend(read.map_err(|error| Problem::Usage(format!("{}: {error}", path.display())))?);
    }
    for pair in connection.kafka_properties.iter().flat_map(|list| list.split(',')) {
        let pair = KafkaSettings::read_properties(pair);
        given.extend(pair.map_err(|_| Problem::Usage("KAFKA_PROPERTIES is not k=v,k=v".into()))?);
    }
    for (pair, number) in connection.properties.iter().zip(1..) {
        let pair = KafkaSettings::read_properties(pair);
        given.extend(pair.map_err(|_| Problem::Usage(format!("-X number {number} is not KEY=VALUE")))?);
    }
    let kafka = KafkaSettings { properties: given, ..KafkaSettings::default() };
    kafka.check().map_err(|error| Problem::Usage(error.to_string()))?;
    Ok(kafka.properties)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connection() -> Connection {
        Connection {
            brokers: None,
            properties: vec!["client.id=me".into()],
            kafka_properties: Some("client.id=env,linger.ms=1".into()),
            config: None,
            connect_timeout: Duration::from_secs(1),
        }
    }

    #[test]
    fn later_settings_win_and_brokers_are_required() {
        let error = client_config(&connection()).expect_err("no brokers");
        assert!(matches!(error.downcast_ref(), Some(Problem::Usage(_))));
        let config =
            client_config(&Connection { brokers: Some("b:1".into()), ..connection() }).expect("complete");
        assert_eq!(config.get("client.id"), Some("me"));
        assert_eq!(config.get("linger.ms"), Some("1"));
        assert_eq!(config.get("bootstrap.servers"), Some("b:1"));
    }

    #[test]
    fn what_cannot_be_a_property_is_told_without_its_value() {
        for (given, expected) in [
            ("secret", "-X number 1 is not KEY=VALUE"),
            ("sasl.pasword=secret", "librdkafka has no property sasl.pasword, or was built without it"),
            ("security.protocol=secret", "librdkafka does not take the value given for security.protocol"),
        ] {
            let connection = Connection { properties: vec![given.into()], ..connection() };
            assert_eq!(client_config(&connection).expect_err("refused").to_string(), expected);
        }
    }
}
