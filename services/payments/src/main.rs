//! The payments service's process.

use std::process::ExitCode;

use clap::Parser;
use payments::settings::Settings;

fn main() -> ExitCode {
    let settings = Settings::parse();
    let telemetry = settings.common.telemetry.clone();
    chassis::process::run("payments", &telemetry, |stop| payments::run(settings, stop))
}
