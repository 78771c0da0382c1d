//! `audit`.

use std::{fmt::Display, process::ExitCode, time::Duration};

use anyhow::{Result, bail};
use clap::Args;
use devstack::{audit, money, progress, stack::RunState, topology::Role};

use serde::Serialize;

use super::{open::open_running, output::Output};

#[derive(Debug, Args)]
pub(crate) struct AuditArgs {
    /// How to show it
    #[arg(short, long, default_value = "table")]
    output: Output,
    /// Compare the money instead: the ledger, the payment provider's own list of charges, and what the orders have become
    #[arg(long)]
    money: bool,
    /// With --money: what has happened within so many seconds may be on its way, and is not demanded
    #[arg(long, value_name = "SECONDS", default_value_t = 10, requires = "money")]
    grace: u64,
    /// Seconds for which the services remember outcomes, if they were told another time than three days
    #[arg(long, value_name = "SECONDS", env = "INBOX_RETENTION_S")]
    retention: Option<u64>,
}

/// Ends with 0 only if every offset is accounted for, or every cent.
pub(crate) async fn audit(args: AuditArgs) -> Result<ExitCode> {
    let stack = open_running()?;
    let servers = stack.status().into_iter().filter(|process| Role::SERVERS.contains(&process.name));
    let runs = |state| matches!(state, RunState::Running | RunState::External);
    let mut missing = servers.filter(|process| process.name != Role::Redis && !runs(process.state));
    if let Some(process) = missing.next() {
        bail!("{} does not run, and the audit reads from it: run `./dev up --detach`", process.name);
    }
    if args.money {
        let grace = Duration::from_secs(args.grace);
        let report = progress::during("comparing the money", money::run(&stack, grace)).await?;
        return said(args.output, &report, report.is_clean());
    }
    let retention = args.retention.map_or_else(audit::retention, Duration::from_secs);
    let audit = progress::during("reading the topics again", audit::run(&stack, retention)).await?;
    said(args.output, &audit, audit.is_clean())
}

fn said<T: Display + Serialize>(output: Output, found: &T, is_clean: bool) -> Result<ExitCode> {
    match output {
        Output::Table => println!("{found}"),
        Output::Json => println!("{}", serde_json::to_string(found)?),
    }
    Ok(if is_clean { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
