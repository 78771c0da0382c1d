//! `audit`.

use std::{process::ExitCode, time::Duration};

use anyhow::{Result, bail};
use clap::Args;
use devstack::{audit, progress, stack::RunState, topology::Role};

use super::{open::open_running, output::Output};

#[derive(Debug, Args)]
pub(crate) struct AuditArgs {
    /// How to show it
    #[arg(short, long, default_value = "table")]
    output: Output,
    /// Seconds for which the services remember outcomes, if they were told another time than three days
    #[arg(long, value_name = "SECONDS", env = "INBOX_RETENTION_S")]
    retention: Option<u64>,
}

/// Ends with 0 only if every offset is accounted for.
pub(crate) async fn audit(args: AuditArgs) -> Result<ExitCode> {
    let stack = open_running()?;
    let servers = stack.status().into_iter().filter(|process| Role::SERVERS.contains(&process.name));
    let runs = |state| matches!(state, RunState::Running | RunState::External);
    let mut missing = servers.filter(|process| process.name != Role::Redis && !runs(process.state));
    if let Some(process) = missing.next() {
        bail!("{} does not run, and the audit reads from it: run `./dev up --detach`", process.name);
    }
    let retention = args.retention.map_or_else(audit::retention, Duration::from_secs);
    let audit = progress::during("reading the topics again", audit::run(&stack, retention)).await?;
    match args.output {
        Output::Table => println!("{audit}"),
        Output::Json => println!("{}", serde_json::to_string(&audit)?),
    }
    Ok(if audit.is_clean() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
