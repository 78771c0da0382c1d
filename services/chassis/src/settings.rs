//! Settings that services have in common, to be flattened into their own.

mod runtime;

use actors::KafkaSettings;
use clap::{Args, ValueEnum};

pub use self::runtime::RuntimeArgs;

/// What every consumer service is told.
#[derive(Args, Clone, Debug)]
pub struct CommonArgs {
    /// How to log.
    #[command(flatten)]
    pub telemetry: TelemetryArgs,
    /// How to reach Kafka.
    #[command(flatten)]
    pub kafka: KafkaArgs,
    /// How the consumer group works.
    #[command(flatten)]
    pub runtime: RuntimeArgs,
    /// Redis for dedupe hints, such as redis://localhost:6379; empty or unset works without.
    #[arg(long, env, hide_env_values = true, default_value = "")]
    pub redis_url: String,
    /// Most connections to the database.
    #[arg(long, env, default_value = "16", value_parser = positive)]
    pub database_pool: usize,
    /// Accept payment tokens that force a path through the simulation (`tok_…`): for tests and demonstrations only.
    #[arg(long, env, default_value_t = false, action = clap::ArgAction::Set)]
    pub test_tokens: bool,
}

/// How to log.
#[derive(Args, Clone, Debug)]
pub struct TelemetryArgs {
    /// JSON lines, text, or auto: text on a terminal, else JSON.
    #[arg(long, env, value_enum, default_value_t = LogFormat::Auto)]
    pub log_format: LogFormat,
    /// What to log: a level, or directives such as `info,actors=debug`. The actor library's own spans say nothing that the
    /// lines do not.
    #[arg(long, env, default_value = "info,ractor=warn")]
    pub log_filter: String,
}

/// The form of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For people.
    Text,
    /// Text on a terminal, else JSON.
    Auto,
}

/// How to reach Kafka, and what to find there.
#[derive(Args, Clone, Debug)]
pub struct KafkaArgs {
    /// Brokers, `host:port`, comma-separated.
    #[arg(long, env)]
    pub kafka_brokers: String,
    /// librdkafka properties laid over ours: `security.protocol=ssl,client.id=a`.
    #[arg(long, env, hide_env_values = true, default_value = "", value_parser = properties)]
    pub kafka_properties: Properties,
    /// Create the topics that are missing.
    #[arg(long, env, default_value_t = true, action = clap::ArgAction::Set)]
    pub create_topics: bool,
    /// Partitions every topic must have.
    #[arg(long, env, default_value_t = contracts::topics::PARTITIONS, value_parser = clap::value_parser!(i32).range(1..=10_000))]
    pub topic_partitions: i32,
}

/// Named values in the order given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Properties(pub Vec<(String, String)>);

fn properties(text: &str) -> Result<Properties, String> {
    text.split(',')
        .filter(|part| !part.trim().is_empty())
        .map(|part| match part.split_once('=') {
            Some((name, value)) if !name.trim().is_empty() => {
                Ok((name.trim().to_owned(), value.trim().to_owned()))
            }
            _ => Err("expected name=value, comma-separated".to_owned()),
        })
        .collect::<Result<_, _>>()
        .map(Properties)
}

impl KafkaArgs {
    /// For the runtime.
    pub fn settings(&self) -> KafkaSettings {
        KafkaSettings { brokers: self.kafka_brokers.clone(), properties: self.kafka_properties.0.clone() }
    }
}

fn positive(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("must be at least 1".to_owned()),
        Ok(number) => Ok(number),
        Err(error) => Err(format!("not a number: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use actors::{GroupSettings, RetryPolicy};
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Settings {
        #[command(flatten)]
        common: CommonArgs,
    }

    fn parse(args: &[&str]) -> Result<CommonArgs, clap::Error> {
        let args = ["service", "--kafka-brokers", "localhost:9092"].iter().chain(args);
        Settings::try_parse_from(args).map(|settings| settings.common)
    }

    #[test]
    fn what_is_not_given_keeps_the_runtimes_default() {
        let common = parse(&["--retry-initial-ms", "7", "--crash-limit", "2"]).expect("valid");
        let default = GroupSettings::new("s", "g", &["t"], common.kafka.settings());
        let mut settings = default.clone();
        common.runtime.apply(&mut settings);
        assert_eq!(settings.retry, RetryPolicy { initial: Duration::from_millis(7), ..default.retry });
        assert_eq!((settings.crash_limit, settings.batch_max_records), (2, default.batch_max_records));
    }

    #[test]
    fn a_short_session_shortens_the_drain() {
        let mut settings = GroupSettings::new("s", "g", &["t"], KafkaSettings::default());
        parse(&["--session-timeout-ms", "5000"]).expect("valid").runtime.apply(&mut settings);
        assert_eq!(settings.drain, Duration::from_secs(3));
    }

    #[test]
    fn properties_are_pairs() {
        let common = parse(&["--kafka-properties", "a.b=c, d=e=f"]).expect("valid");
        let pairs = [("a.b", "c"), ("d", "e=f")].map(|(k, v)| (k.to_owned(), v.to_owned()));
        assert_eq!(common.kafka.settings().properties, pairs);
        assert_eq!(parse(&[]).expect("valid").kafka.kafka_properties, Properties::default());
        assert!(parse(&["--kafka-properties", "nonsense"]).is_err());
    }

    #[test]
    fn values_that_cannot_work_are_refused() {
        for args in [
            ["--retry-multiplier", "0.5"],
            ["--retry-attempts", "0"],
            ["--batch-max-records", "0"],
            ["--topic-partitions", "0"],
            ["--test-tokens", "maybe"],
        ] {
            assert!(parse(&args).is_err(), "{args:?}");
        }
    }
}
