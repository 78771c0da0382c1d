//! The command line.

use std::{net::SocketAddr, time::Duration};

use clap::{Args as ClapArgs, Parser, Subcommand};

use crate::{
    exit::Problem,
    ids::Ids,
    kafka::Connection,
    output::Format,
    select::Selectors,
    snapshot::{Prefix, Sort},
    time::duration,
};

/// Dead letters: what died, why, and back to work with it.
///
/// Without a command it shows where letters are open, of what most of them died, and what to type next.
///
/// Exit codes: 0 ok, 1 error, 2 usage, 3 nothing matched, 4 some failed, 5 refused for safety, 6 cannot reach Kafka,
/// 7 another operator took over, 130 interrupted.
#[derive(Clone, Debug, Parser)]
#[command(name = "dlq-inspector", version)]
pub struct Args {
    /// Where Kafka is.
    #[command(flatten)]
    pub connection: Connection,
    /// How to print.
    #[arg(short, long, global = true, value_enum, default_value_t)]
    pub output: Format,
    /// What to do; nothing shows where to begin.
    #[command(subcommand)]
    pub command: Option<Command>,
}

const GROUPS_EXAMPLES: &str = "\
Examples:
  dlq-inspector groups                            open dead letters by cause, the most frequent first
  dlq-inspector groups --since 1h --sort newest   what is new
  dlq-inspector groups --all -o json              those that are done with too; a line each, for programs
  dlq-inspector requeue --fingerprint 00ff00ff00ff00ff

Alike are letters of one fingerprint (class, code and error, but for the numbers and ids in it), one consumer group and one build.";

const LIST_EXAMPLES: &str = "\
Examples:
  dlq-inspector list                                 what is open
  dlq-inspector list --all --key order-7             all that became of an order
  dlq-inspector list --state dead-again --since 1h
  dlq-inspector list --code not-json -o ids          ids alone, for requeue, discard and restore, which read them by -";

const REQUEUE_EXAMPLES: &str = "\
Examples:
  dlq-inspector requeue 3d566287                                  what would be put back, and what to know before
  dlq-inspector requeue 3d566287 --execute --wait                 put it back, and see what becomes of it
  dlq-inspector requeue --code amount-over-limit --rate 50/s      all open ones that died of it
  dlq-inspector list --key order-7 -o ids | dlq-inspector requeue -";

const DISCARD_EXAMPLES: &str = "\
Examples:
  dlq-inspector discard 3d566287 --reason 'a test order'          what would be closed; --execute does it
  dlq-inspector discard --code not-json --reason 'the sender is mended, ticket 4711'
  dlq-inspector list --key order-7 -o ids | dlq-inspector discard - --reason 'cancelled by phone' --execute

A discarded letter is kept, is not open any more, and cannot be requeued until `restore` takes that back.";

const RESTORE_EXAMPLES: &str = "\
Examples:
  dlq-inspector list --state discarded                            what was discarded
  dlq-inspector restore 3d566287 --reason 'it was the wrong one'  what would be restored; --execute does it";

const NOTE_EXAMPLES: &str = "\
Examples:
  dlq-inspector note 00ff00ff 'the limit is raised on Monday; do not requeue before'
  dlq-inspector note 00ff00ff ''                                  take it away

`groups` and `show` have fingerprint and note.";

/// What to do.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Every dead-letter topic: how many open, requeued, resolved, and how long they are kept
    Topics(TopicsArgs),
    /// Dead letters that died alike: how many, of what, since when, what was tried
    #[command(after_help = GROUPS_EXAMPLES)]
    Groups(GroupsArgs),
    /// Open dead letters, newest first
    #[command(after_help = LIST_EXAMPLES)]
    List(ListArgs),
    /// All about one dead letter: error, headers, body, history
    Show(ShowArgs),
    /// Put dead letters back into their group: prints the plan; --execute does it
    #[command(after_help = REQUEUE_EXAMPLES)]
    Requeue(RequeueArgs),
    /// Close dead letters without running them: prints the plan; --execute does it
    #[command(after_help = DISCARD_EXAMPLES)]
    Discard(CloseArgs),
    /// Take discards back, so that letters are what they were before: prints the plan; --execute does it
    #[command(after_help = RESTORE_EXAMPLES)]
    Restore(CloseArgs),
    /// Leave a note on dead letters alike, for the next person; an empty one takes it away
    #[command(after_help = NOTE_EXAMPLES)]
    Note(NoteArgs),
    /// Counts dead letters by group and state, again and again, and shows that to Prometheus
    Metrics(MetricsArgs),
}

impl Command {
    /// Refuses `-o ids` where what is printed are no letters.
    ///
    /// # Errors
    /// [`Problem::Usage`].
    pub fn takes(&self, format: Format) -> Result<(), Problem> {
        let what = match self {
            _ if format != Format::Ids => return Ok(()),
            Self::List(_) => return Ok(()),
            Self::Requeue(RequeueArgs { execute, .. })
            | Self::Discard(CloseArgs { execute, .. })
            | Self::Restore(CloseArgs { execute, .. }) => match execute {
                false => return Ok(()),
                true => "with --execute",
            },
            Self::Topics(_) | Self::Groups(_) | Self::Show(_) | Self::Note(_) | Self::Metrics(_) => {
                "with this command"
            }
        };
        Err(Problem::Usage(format!("-o ids does not go {what}: list has it, and a plan")))
    }

    /// Whether it is about letters that are named one by one: what else cannot be read then changes nothing.
    pub fn names_ids(&self) -> bool {
        match self {
            Self::Topics(_) | Self::Groups(_) | Self::List(_) | Self::Metrics(_) => false,
            Self::Show(_) | Self::Note(_) => true,
            Self::Requeue(args) => args.ids.are_given(),
            Self::Discard(args) | Self::Restore(args) => args.ids.are_given(),
        }
    }
}

/// Arguments of `topics`.
#[derive(Clone, Debug, ClapArgs)]
pub struct TopicsArgs {
    /// Only this dead-letter topic; may repeat
    #[arg(long, value_name = "TOPIC")]
    pub dlq: Vec<String>,
    /// Only this consumer group; may repeat
    #[arg(long)]
    pub group: Vec<String>,
}

/// Arguments of `groups`.
#[derive(Clone, Debug, ClapArgs)]
pub struct GroupsArgs {
    /// Which; open ones unless --state says otherwise.
    #[command(flatten)]
    pub selectors: Selectors,
    /// In whatever state
    #[arg(long, conflicts_with = "state")]
    pub all: bool,
    /// What comes first
    #[arg(long, value_enum, default_value_t)]
    pub sort: Sort,
    /// Print at most so many
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    pub limit: u32,
}

/// Arguments of `list`.
#[derive(Clone, Debug, ClapArgs)]
pub struct ListArgs {
    /// Which; open ones unless --state says otherwise.
    #[command(flatten)]
    pub selectors: Selectors,
    /// In whatever state
    #[arg(long, conflicts_with = "state")]
    pub all: bool,
    /// Print at most so many, the newest, counted after the selectors
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    pub limit: u32,
}

/// Arguments of `show`.
#[derive(Clone, Debug, ClapArgs)]
pub struct ShowArgs {
    /// Its id, or the beginning of it
    pub id: Prefix,
    /// Only look into this dead-letter topic; may repeat
    #[arg(long, value_name = "TOPIC")]
    pub dlq: Vec<String>,
    /// Write the body's bytes as they are, and nothing else
    #[arg(long, conflicts_with = "hex")]
    pub raw: bool,
    /// Show the body as a hex dump
    #[arg(long)]
    pub hex: bool,
    /// Do not mask fields such as payment_token or password
    #[arg(long)]
    pub reveal: bool,
}

/// Arguments of `metrics`.
#[derive(Clone, Debug, ClapArgs)]
pub struct MetricsArgs {
    /// Where /metrics and /readyz are answered
    #[arg(long, value_name = "ADDRESS", env = "METRICS_LISTEN", default_value = "127.0.0.1:9104")]
    pub listen: SocketAddr,
    /// How long to rest between two counts; where a count takes long, four times as long as it took
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = duration)]
    pub every: Duration,
}

/// Arguments of `requeue`.
#[derive(Clone, Debug, ClapArgs)]
pub struct RequeueArgs {
    /// Which, by id.
    #[command(flatten)]
    pub ids: Ids,
    /// Which; without ids, open ones unless --state says otherwise.
    #[command(flatten)]
    pub selectors: Selectors,
    /// Do it; without this the plan is printed and nothing is written
    #[arg(long)]
    pub execute: bool,
    /// Also those that died in their third generation or later, and although the ledger cannot be read as a whole
    #[arg(long)]
    pub force: bool,
    /// Then wait for what becomes of them
    #[arg(long, requires = "execute")]
    pub wait: bool,
    /// How long to wait for outcomes
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = duration)]
    pub timeout: Duration,
    /// At most so many a second
    #[arg(long, value_name = "N/s", value_parser = rate)]
    pub rate: Option<u32>,
    /// Who acts, for the ledger [default: user@host]
    #[arg(long = "as", value_name = "WHO")]
    pub by: Option<String>,
    /// Why, for the ledger
    #[arg(long)]
    pub reason: Option<String>,
}

/// Arguments of `discard` and `restore`.
#[derive(Clone, Debug, ClapArgs)]
pub struct CloseArgs {
    /// Which, by id.
    #[command(flatten)]
    pub ids: Ids,
    /// Which; without ids, `discard` means open ones and `restore` discarded ones, unless --state says otherwise.
    #[command(flatten)]
    pub selectors: Selectors,
    /// Why, for the ledger and whoever looks next
    #[arg(long, value_name = "TEXT", value_parser = reason)]
    pub reason: String,
    /// Do it; without this the plan is printed and nothing is written
    #[arg(long)]
    pub execute: bool,
    /// Discard also what was requeued and has no outcome yet; go on although the ledger cannot be read as a whole
    #[arg(long)]
    pub force: bool,
    /// Who acts, for the ledger [default: user@host]
    #[arg(long = "as", value_name = "WHO")]
    pub by: Option<String>,
}

/// Arguments of `note`.
#[derive(Clone, Debug, ClapArgs)]
pub struct NoteArgs {
    /// The fingerprint of the letters, or the beginning of it
    #[arg(value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub fingerprint: String,
    /// What people should know, 1,000 characters at most
    #[arg(value_parser = note)]
    pub text: String,
    /// Who writes it [default: user@host]
    #[arg(long = "as", value_name = "WHO")]
    pub by: Option<String>,
}

fn note(text: &str) -> Result<String, String> {
    match text.trim() {
        long if long.chars().count() > 1_000 => Err("it is longer than 1,000 characters".into()),
        text => Ok(text.to_owned()),
    }
}

fn reason(text: &str) -> Result<String, String> {
    match text.trim() {
        "" => Err("say why".into()),
        text => Ok(text.to_owned()),
    }
}

fn rate(text: &str) -> Result<u32, String> {
    let number = text.strip_suffix("/s").unwrap_or(text);
    match number.parse() {
        Ok(rate) if rate > 0 => Ok(rate),
        _ => Err(format!("{text:?} is no rate: write 50/s")),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn ids_are_printed_of_letters_that_are_looked_at() {
        let takes = |line: &str| {
            let args = Args::try_parse_from(line.split(' ')).expect(line);
            args.command.expect("a command").takes(args.output).is_ok()
        };
        for (line, taken) in [
            ("x list -o ids", true),
            ("x requeue ab -o ids", true),
            ("x requeue ab --execute -o ids", false),
            ("x requeue ab --execute -o json", true),
            ("x discard ab --reason r --execute -o ids", false),
            ("x topics -o ids", false),
            ("x groups -o ids", false),
        ] {
            assert_eq!(takes(line), taken, "{line}");
        }
    }

    #[test]
    fn rates_are_checked() {
        assert_eq!(rate("50/s"), Ok(50));
        assert_eq!(rate("7"), Ok(7));
        assert!(rate("0").is_err() && rate("x/s").is_err());
    }
}
