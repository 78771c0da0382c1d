//! The orders service's process.

use std::process::ExitCode;

use clap::Parser;
use orders::Settings;

fn main() -> ExitCode {
    let settings = Settings::parse();
    let telemetry = settings.common.telemetry.clone();
    chassis::process::run(orders::NAME, &telemetry, |stop| orders::run(settings, stop))
}
