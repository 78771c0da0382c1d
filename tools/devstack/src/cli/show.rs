//! `status`, `env`.

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use anyhow::Result;
use devstack::{os::launch::Lifetime, stack::RunState, topology::label};

use super::{
    open::{open, open_running},
    output::Output,
};

pub(crate) fn status(output: Output) -> Result<ExitCode> {
    let status = open(Lifetime::Detached, None)?.status();
    let mut out = io::stdout().lock();
    if output == Output::Json {
        writeln!(out, "{}", serde_json::to_string_pretty(&status)?)?;
        return Ok(ExitCode::SUCCESS);
    }
    if status.iter().all(|process| process.state == RunState::Stopped) {
        writeln!(out, "the stack is down: ./dev up --detach starts it")?;
        return Ok(ExitCode::SUCCESS);
    }
    writeln!(out, "{:10} {:>3} {:9} {:>8}  {:22} ADMIN", "NAME", "#", "STATE", "PID", "ADDRESS")?;
    for process in status {
        let state = match process.state {
            RunState::Running => "running",
            RunState::Dead => "dead",
            RunState::Stopped => "stopped",
            RunState::External => "external",
        };
        let pid = process.pid.map_or_else(|| "-".into(), |pid| pid.to_string());
        let address = process.address.unwrap_or_else(|| "-".into());
        let admin = process.admin_url.unwrap_or_default();
        writeln!(
            out,
            "{:10} {:>3} {state:9} {pid:>8}  {address:22} {admin}",
            process.name, process.instance
        )?;
    }
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn env() -> Result<ExitCode> {
    let stack = open_running()?;
    // Who evaluates this reads it all the same.
    for process in stack.status().iter().filter(|process| process.state == RunState::Dead) {
        eprintln!("{} does not run: `./dev up --detach` starts it", label(process.name, process.instance));
    }
    let mut out = io::stdout().lock();
    for (name, value) in stack.environment() {
        writeln!(out, "export {name}='{}'", value.replace('\'', r"'\''"))?;
    }
    Ok(ExitCode::SUCCESS)
}
