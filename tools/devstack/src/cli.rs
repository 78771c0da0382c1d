//! The commands.

mod audit;
mod bench;
mod checks;
mod ending;
mod inspector;
mod lab;
mod logs;
mod open;
mod output;
mod produce;
mod show;
mod up;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use self::output::Output;

/// The stack for working with, and what is shown, tested and measured on it.
#[derive(Debug, Parser)]
#[command(name = "./dev", disable_version_flag = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show the system doing its main job on a private stack, step by step
    Demo,
    /// Break a private stack under load, watch it, and judge what became of it
    Lab(lab::LabArgs),
    /// Check the format, the lints and all tests, as the CI does
    Test(checks::TestArgs),
    /// Measure a release build
    Bench(bench::BenchArgs),
    /// Start what is missing of the stack and wait until all of it serves
    Up(up::UpArgs),
    /// Stop everything that `up` started
    Down,
    /// Show every process of the stack
    Status {
        /// How to show it
        #[arg(short, long, default_value = "table")]
        output: Output,
    },
    /// Show what the stack, or one of its processes, has said
    Logs(logs::LogsArgs),
    /// Print shell exports that name every address: eval "$(./dev env)"
    Env,
    /// Prove that every offset has an outcome
    ///
    /// Does not believe the counters: reads again every record the groups have read, walks it beside the journal, and looks
    /// up in the inbox, the parked records, the dead letters and the ledger what the journal says of it. Costs about as much
    /// as reading the topics and asking PostgreSQL for one row a record. Names the first offset that has no outcome, and ends
    /// with 0 only if there is none.
    #[command(alias = "books")]
    Audit(audit::AuditArgs),
    /// Publish standard input as one record: to break things by hand
    ///
    /// echo '{not json' | ./dev produce orders some-key -H correlation-id=me
    Produce(produce::ProduceArgs),
    /// Run dlq-inspector on the stack
    #[command(disable_help_flag = true)]
    Inspector {
        /// Its arguments
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
}

/// Runs a command to its exit code.
pub(crate) async fn run(cli: Cli) -> Result<ExitCode> {
    match cli.command {
        Command::Demo => devstack::demo::run().await.map(|()| ExitCode::SUCCESS),
        Command::Lab(arguments) => Ok(lab::lab(arguments).await),
        Command::Test(test) => checks::test(test).await,
        Command::Bench(arguments) => bench::bench(arguments).await,
        Command::Up(arguments) => up::up(arguments).await,
        Command::Down => up::down().await,
        Command::Status { output } => show::status(output),
        Command::Logs(arguments) => logs::logs(arguments).await,
        Command::Env => show::env(),
        Command::Audit(arguments) => audit::audit(arguments).await,
        Command::Produce(arguments) => produce::produce(arguments).await,
        Command::Inspector { arguments } => inspector::inspector(arguments).await,
    }
}
