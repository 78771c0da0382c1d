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
    let without: Vec<_> = command.get_arguments().filter(|arg| arg.get_help_heading().is_none()).collect();
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
