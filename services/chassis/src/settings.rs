//! Settings that services have in common, to be flattened into their own.

mod database;
mod http;
mod kafka;
mod runtime;
mod telemetry;
mod values;

use std::ffi::OsStr;

use clap::{Args, Command, Parser, builder::Resettable};

pub use self::{
    database::DatabaseArgs,
    http::{AdminArgs, HttpArgs},
    kafka::{KafkaArgs, KafkaArgsError},
    runtime::RuntimeArgs,
    telemetry::TelemetryArgs,
};

/// Reads the command line and the environment, in which an empty variable is one that is not set: what a compose file makes of
/// `${NAME:-}`. Ends the process with a message where they say what cannot be.
pub fn parse<S: Parser>() -> S {
    let command =
        without_empty(S::command(), |name| std::env::var_os(name).is_some_and(|value| value.is_empty()));
    S::from_arg_matches(&command.get_matches()).unwrap_or_else(|error| error.format(&mut S::command()).exit())
}

fn without_empty(command: Command, is_empty: impl Fn(&OsStr) -> bool) -> Command {
    command.mut_args(|arg| match arg.get_env() {
        Some(name) if is_empty(name) => arg.env(Resettable::Reset),
        _ => arg,
    })
}

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
    /// What callers may take.
    #[command(flatten)]
    pub http: HttpArgs,
    /// Who may use the admin port.
    #[command(flatten)]
    pub admin: AdminArgs,
    /// Redis for dedupe hints, such as redis://localhost:6379; empty or unset works without.
    #[arg(long, env, hide_env_values = true, default_value = "", help_heading = "Redis")]
    pub redis_url: String,
    /// How to reach the database, beside its URL.
    #[command(flatten)]
    pub database: DatabaseArgs,
    /// Accept payment tokens that force a path through the simulation (`tok_…`): for tests and demonstrations only.
    #[arg(long, env, default_value_t = false, action = clap::ArgAction::Set, help_heading = "Simulation")]
    pub test_tokens: bool,
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use clap::{CommandFactory, FromArgMatches};

    use super::*;
    use actors::{GroupSettings, KafkaSettings, RetryPolicy};

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
        let default = GroupSettings::new("s", "g", &["t"], KafkaSettings::default());
        let mut settings = default.clone();
        common.runtime.apply(&mut settings);
        assert_eq!(settings.retry, RetryPolicy { initial: Duration::from_millis(7), ..default.retry });
        assert_eq!((settings.crash_limit, settings.batch_max_records), (2, default.batch_max_records));
    }

    #[test]
    fn an_empty_variable_is_one_that_is_not_set() {
        #[derive(Parser)]
        struct Line {
            #[arg(long, env = "PATH")]
            search: Option<std::path::PathBuf>,
        }
        for (empty, found) in [(false, true), (true, false)] {
            let command = without_empty(Line::command(), |name| empty && name == "PATH");
            let line = Line::from_arg_matches(&command.get_matches_from(["line"])).expect("valid");
            assert_eq!(line.search.is_some(), found);
        }
    }

    #[test]
    fn the_help_says_the_runtimes_own_defaults() {
        let default = GroupSettings::new("s", "g", &["t"], KafkaSettings::default());
        for arg in RuntimeArgs::augment_args(Command::new("runtime")).get_arguments() {
            let (name, help) = (arg.get_long().expect("a name"), arg.get_help().expect("a text").to_string());
            let said = help.rsplit_once("[default: ").and_then(|(_, said)| said.strip_suffix(']'));
            let said = said.unwrap_or_else(|| panic!("--{name} does not end with its default: {help}"));
            let mut settings = default.clone();
            parse(&[&format!("--{name}"), said]).expect("valid").runtime.apply(&mut settings);
            assert_eq!(format!("{settings:?}"), format!("{default:?}"), "--{name} {said}");
        }
    }

    #[test]
    fn every_setting_has_a_heading() {
        let command = Settings::command();
        let without: Vec<_> =
            command.get_arguments().filter(|arg| arg.get_help_heading().is_none()).collect();
        assert!(without.is_empty(), "{without:?}");
    }

    #[test]
    fn a_short_session_shortens_the_drain() {
        let mut settings = GroupSettings::new("s", "g", &["t"], KafkaSettings::default());
        parse(&["--session-timeout-ms", "5000"]).expect("valid").runtime.apply(&mut settings);
        assert_eq!(settings.drain, Duration::from_secs(3));
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
