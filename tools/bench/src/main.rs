//! `./dev bench runtime`: what the runtime costs, beside what one would write by hand, in one run on one machine.
//!
//! Seven ways to work through the same records, each in a process of its own, so that its processor time and memory are its
//! own: consume and parse, the runtime with a handler that ignores everything, hand-written batch SQL, the runtime with the
//! handler that does the same, with one that takes its events one by one, with the former while the inbox forgets old events, and
//! with what real life adds. `setup` makes the records; `report` compares.
//!
//! `./dev bench retry-topics`, in [`retries`], asks another question: what becomes of the order when a record is tried again.

mod by_hand;
mod event;
mod raw;
mod report;
mod retries;
mod runtime;
mod servers;
mod setup;
mod simple;
mod usage;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand, ValueEnum};

use self::retries::Retries;

/// Measures the runtime against its ceilings. Needs KAFKA_BROKERS, REDIS_URL and TEST_POSTGRES_URL; `./dev bench runtime`
/// starts servers and sets them.
#[derive(Debug, Parser)]
#[command(args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    other: Option<Other>,
    /// Records of each way; 5 % more in the mix
    #[arg(long, default_value_t = 300_000, value_parser = clap::value_parser!(u32).range(1_000..=5_000_000))]
    events: u32,
    /// How often each way is measured; the median counts
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=20))]
    runs: u32,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    /// Run one way here and print what it took: what the other processes are told
    #[arg(long, hide = true, requires = "topic")]
    way: Option<Way>,
    /// The records to work through
    #[arg(long, hide = true)]
    topic: Option<String>,
}

/// What else is measured.
#[derive(Debug, Subcommand)]
enum Other {
    /// What it costs to try a record again: in place, with retry topics, and parked by the runtime
    RetryTopics(Retries),
}

/// A way to work through the records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Way {
    /// Consume and parse, nothing else.
    Raw,
    /// The runtime, with a handler that decodes and ignores every record.
    Bare,
    /// Hand-written: inbox, upsert and outbox set-based in one transaction a batch, Redis before and after.
    Ceiling,
    /// The runtime, with the handler that does the same.
    Protocol,
    /// The runtime, with a handler that takes its events one by one.
    Simple,
    /// The runtime, with the handler that does the same as the hand-written, while the inbox forgets a million events.
    Swept,
    /// The same with 5 % duplicates, 1 % poison, 1 % permanent and 2 % transient failures.
    Mix,
}

impl Way {
    /// In the order in which they are run and shown.
    pub(crate) const ALL: [Self; 7] =
        [Self::Raw, Self::Bare, Self::Ceiling, Self::Protocol, Self::Simple, Self::Swept, Self::Mix];

    /// As on the command line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Bare => "bare",
            Self::Ceiling => "ceiling",
            Self::Protocol => "protocol",
            Self::Simple => "simple",
            Self::Swept => "swept",
            Self::Mix => "mix",
        }
    }
}

fn main() -> Result<ExitCode> {
    let cli = Cli::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    if let Some(Other::RetryTopics(retries)) = cli.other {
        runtime.block_on(retries::run(retries))?;
        return Ok(ExitCode::SUCCESS);
    }
    let records = usize::try_from(cli.events)?;
    match (cli.way, cli.topic) {
        (Some(way), Some(topic)) => runtime.block_on(one(way, &topic, records))?,
        _ => runtime.block_on(report::run(records, cli.runs, cli.json))?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Runs one way and prints what it took as a line of JSON.
async fn one(way: Way, topic: &str, records: usize) -> Result<()> {
    let taken = match way {
        Way::Raw => {
            let topic = topic.to_owned();
            tokio::task::spawn_blocking(move || raw::run(&topic, records)).await??
        }
        Way::Ceiling => by_hand::run(topic, records).await?,
        Way::Bare | Way::Protocol | Way::Simple | Way::Swept | Way::Mix => {
            runtime::run(way, topic, records).await?
        }
    };
    println!("{}", serde_json::to_string(&usage::measured(taken)?)?);
    Ok(())
}
