//! The delivery service's process.

use std::process::ExitCode;

use clap::Parser;
use delivery::settings::Settings;

fn main() -> ExitCode {
    let settings = Settings::parse();
    let telemetry = settings.common.telemetry.clone();
    chassis::process::run("delivery", &telemetry, |stop| delivery::run(settings, stop))
}
