//! Selectors: which dead letters. Several mean AND, a repeated one means OR.

use chrono::{DateTime, Utc};
use clap::Args as ClapArgs;
use dead_letters::Class;

use crate::{
    snapshot::{Letter, State},
    time::{When, rfc3339},
};

/// The selectors on a command line, the same for every command.
#[derive(Clone, Debug, Default, ClapArgs)]
#[command(next_help_heading = "Selectors (several mean AND, a repeated one means OR)")]
pub struct Selectors {
    /// In this dead-letter topic
    #[arg(long, value_name = "TOPIC")]
    pub dlq: Vec<String>,
    /// Died in this consumer group
    #[arg(long)]
    pub group: Vec<String>,
    /// poison, permanent, exhausted, crash or foreign
    #[arg(long, value_parser = class)]
    pub class: Vec<String>,
    /// With this error code
    #[arg(long)]
    pub code: Vec<String>,
    /// Failed alike
    #[arg(long)]
    pub fingerprint: Vec<String>,
    /// With this record key
    #[arg(long, visible_alias = "order")]
    pub key: Vec<String>,
    /// Of this event type
    #[arg(long)]
    pub event_type: Vec<String>,
    /// With this correlation id
    #[arg(long)]
    pub correlation_id: Vec<String>,
    /// Died at or after this time: RFC 3339, or an age like 15m
    #[arg(long, value_name = "WHEN", value_parser = When::parse)]
    pub since: Option<When>,
    /// Died before this time: RFC 3339, or an age like 15m
    #[arg(long, value_name = "WHEN", value_parser = When::parse)]
    pub until: Option<When>,
    /// In this state
    #[arg(long, value_enum)]
    pub state: Vec<State>,
}

fn class(word: &str) -> Result<String, String> {
    if word != "foreign" {
        word.parse::<Class>().map_err(|error| format!("{error} (or foreign)"))?;
    }
    Ok(word.to_owned())
}

impl Selectors {
    /// Whether none was given.
    pub fn is_empty(&self) -> bool {
        self.flags(DateTime::<Utc>::MIN_UTC).is_empty()
    }

    /// Whether `letter`, in `state`, is meant.
    pub fn matches(&self, letter: &Letter, state: State, now: DateTime<Utc>) -> bool {
        fn any(wanted: &[String], has: Option<&str>) -> bool {
            wanted.is_empty() || has.is_some_and(|has| wanted.iter().any(|want| want == has))
        }
        let key =
            || self.key.is_empty() || self.key.iter().any(|k| letter.key.as_deref() == Some(k.as_bytes()));
        any(&self.dlq, Some(&letter.place.topic))
            && any(&self.group, Some(letter.group()))
            && any(&self.class, Some(letter.class()))
            && any(&self.code, letter.code())
            && any(&self.fingerprint, letter.fingerprint())
            && key()
            && any(&self.event_type, letter.event_type())
            && any(&self.correlation_id, letter.correlation_id())
            && self.since.is_none_or(|since| letter.failed_at() >= since.resolve(now))
            && self.until.is_none_or(|until| letter.failed_at() < until.resolve(now))
            && (self.state.is_empty() || self.state.contains(&state))
    }

    /// Whether `letter`, in `state`, is meant where nobody names a state: then those `unless_said`. Where that is open, whoever
    /// asks for foreign records means them.
    pub fn means(&self, letter: &Letter, state: State, unless_said: State, now: DateTime<Utc>) -> bool {
        let foreign = || self.class.iter().any(|class| class == "foreign") && unless_said == State::Open;
        let in_state = !self.state.is_empty() || state == unless_said || state == State::Foreign && foreign();
        in_state && self.matches(letter, state, now)
    }

    /// The selectors as they would be typed, flag and value in turn; ages become the times they mean `now`, so that
    /// the same words mean the same letters later.
    pub fn flags(&self, now: DateTime<Utc>) -> Vec<String> {
        let time = |when: Option<When>| when.map(|when| rfc3339(when.resolve(now)));
        let mut flags = Vec::new();
        let mut put = |flag: &str, values: &[String]| {
            for value in values {
                flags.extend([format!("--{flag}"), value.clone()]);
            }
        };
        put("dlq", &self.dlq);
        put("group", &self.group);
        put("class", &self.class);
        put("code", &self.code);
        put("fingerprint", &self.fingerprint);
        put("key", &self.key);
        put("event-type", &self.event_type);
        put("correlation-id", &self.correlation_id);
        put("since", &time(self.since).into_iter().collect::<Vec<_>>());
        put("until", &time(self.until).into_iter().collect::<Vec<_>>());
        put("state", &self.state.iter().map(|state| state.as_str().to_owned()).collect::<Vec<_>>());
        flags
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::{snapshot::tests::dead, time::from_ms};

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        selectors: Selectors,
    }

    fn selectors(line: &str) -> Result<Selectors, clap::Error> {
        Line::try_parse_from(std::iter::once("x").chain(line.split_whitespace())).map(|line| line.selectors)
    }

    #[test]
    fn several_mean_and_a_repeated_one_means_or() {
        let letter = dead(10, 1);
        let now = from_ms(60_000);
        let table = [
            ("", true),
            ("--group g", true),
            ("--group other", false),
            ("--group other --group g", true),
            ("--group g --class poison", false),
            ("--class poison --class permanent --code amount-over-limit", true),
            ("--order k", true),
            ("--key x", false),
            ("--event-type ORDER_CREATED --fingerprint 00ff00ff00ff00ff", true),
            ("--correlation-id c", false),
            ("--dlq g.dlq", true),
            ("--since 51s", true),
            ("--since 49s", false),
            ("--until 50s", false),
            ("--until 1970-01-01T00:00:11Z", true),
            ("--state open", true),
            ("--state resolved --state dead-again", false),
        ];
        for (line, matches) in table {
            let selectors = selectors(line).expect(line);
            assert_eq!(selectors.matches(&letter, State::Open, now), matches, "{line}");
        }
        assert!(selectors("--class nonsense").is_err());
        assert!(selectors("--since nonsense").is_err());
    }

    #[test]
    fn a_state_nobody_names_is_the_commands_own() {
        let (letter, now) = (dead(10, 1), from_ms(60_000));
        let table = [
            ("", State::Open, State::Open, true),
            ("", State::Resolved, State::Open, false),
            ("--state resolved", State::Resolved, State::Open, true),
            ("--state resolved", State::Open, State::Open, false),
            ("--group g", State::Discarded, State::Discarded, true),
            ("--group g", State::Open, State::Discarded, false),
            ("--class permanent", State::Foreign, State::Open, false),
            ("--class foreign --class permanent", State::Foreign, State::Open, true),
            ("--class foreign --class permanent", State::Foreign, State::Discarded, false),
        ];
        for (line, state, unless_said, meant) in table {
            let selectors = selectors(line).expect(line);
            assert_eq!(selectors.means(&letter, state, unless_said, now), meant, "{line}: {state:?}");
        }
    }

    #[test]
    fn they_print_as_they_are_typed() {
        let line = "--group a --group b --key k --since 15s --until 1970-01-01T00:00:31Z --state dead-again";
        let parsed = selectors(line).expect(line);
        assert_eq!(
            parsed.flags(from_ms(20_000)).join(" "),
            line.replace("15s", "1970-01-01T00:00:05.000Z").replace(":31Z", ":31.000Z")
        );
        assert!(Selectors::default().is_empty() && !parsed.is_empty());
    }
}
