//! Where Kafka is, and how it is talked to.

use std::{path::PathBuf, time::Duration};

use anyhow::Context as _;
use clap::Args;
use dead_letters::KafkaSettings;

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

impl Connection {
    /// What the file says, then KAFKA_PROPERTIES, then `-X`, then `--brokers`: the last one counts.
    pub(super) fn settings(&self) -> anyhow::Result<KafkaSettings> {
        let (mut brokers, mut properties) = (String::new(), Vec::new());
        for (name, value) in self.given()? {
            match name.as_str() {
                "bootstrap.servers" | "metadata.broker.list" => brokers = value,
                _ => properties.push((name, value)),
            }
        }
        if let Some(given) = &self.brokers {
            brokers.clone_from(given);
        }
        if brokers.is_empty() {
            let what = "where is Kafka? give --brokers host:port or set KAFKA_BROKERS";
            return Err(Problem::Usage(what.into()).into());
        }
        Ok(KafkaSettings { brokers, properties })
    }

    /// What the operator gave, the strongest last. No error repeats a value: it may be a password.
    fn given(&self) -> anyhow::Result<Vec<(String, String)>> {
        let mut given = Vec::new();
        if let Some(path) = &self.config {
            let text =
                std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
            let read = KafkaSettings::read_properties(&text);
            given.extend(read.map_err(|error| Problem::Usage(format!("{}: {error}", path.display())))?);
        }
        for pair in self.kafka_properties.iter().flat_map(|list| list.split(',')) {
            let pair = KafkaSettings::read_properties(pair);
            given.extend(pair.map_err(|_| Problem::Usage("KAFKA_PROPERTIES is not k=v,k=v".into()))?);
        }
        for (pair, number) in self.properties.iter().zip(1..) {
            let pair = KafkaSettings::read_properties(pair);
            given.extend(pair.map_err(|_| Problem::Usage(format!("-X number {number} is not KEY=VALUE")))?);
        }
        let kafka = KafkaSettings { properties: given, ..KafkaSettings::default() };
        kafka.check().map_err(|error| Problem::Usage(error.to_string()))?;
        Ok(kafka.properties)
    }
}

#[cfg(test)]
mod tests {
    use dead_letters::client_config;

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
        let error = connection().settings().expect_err("no brokers");
        assert!(matches!(error.downcast_ref(), Some(Problem::Usage(_))));
        let given = Connection { brokers: Some("b:1".into()), ..connection() };
        let settings = given.settings().expect("complete");
        let config = client_config(&settings, &[("client.id", "ours")]);
        assert_eq!(config.get("client.id"), Some("me"));
        assert_eq!(config.get("linger.ms"), Some("1"));
        assert_eq!(config.get("bootstrap.servers"), Some("b:1"));
        for name in ["bootstrap.servers", "metadata.broker.list"] {
            let properties = vec![format!("{name}=a:1"), format!("{name}=b:2")];
            let named = Connection { properties, ..connection() };
            assert_eq!(named.settings().expect("complete").brokers, "b:2", "{name}");
            let both = Connection { brokers: Some("c:3".into()), ..named };
            assert_eq!(both.settings().expect("complete").brokers, "c:3", "{name}");
        }
    }

    #[test]
    fn what_cannot_be_a_property_is_told_without_its_value() {
        for (given, expected) in [
            ("secret", "-X number 1 is not KEY=VALUE"),
            ("sasl.pasword=secret", "librdkafka has no property sasl.pasword, or was built without it"),
            ("security.protocol=secret", "librdkafka does not take the value given for security.protocol"),
        ] {
            let connection = Connection { properties: vec![given.into()], ..connection() };
            assert_eq!(connection.settings().expect_err("refused").to_string(), expected);
        }
    }
}
