//! The gateway's process.

use std::process::ExitCode;

use gateway::Settings;

fn main() -> ExitCode {
    let settings = chassis::settings::parse::<Settings>();
    let telemetry = settings.telemetry.clone();
    chassis::process::run(gateway::NAME, &telemetry, |shutdown| gateway::run(settings, shutdown))
}
