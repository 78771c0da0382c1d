//! The gateway's process.

use std::process::ExitCode;

use clap::Parser;
use gateway::Settings;

fn main() -> ExitCode {
    let settings = Settings::parse();
    let telemetry = settings.telemetry.clone();
    chassis::process::run(gateway::NAME, &telemetry, |stop| gateway::run(settings, stop))
}
