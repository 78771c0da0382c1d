//! The orders service's process.

use std::process::ExitCode;

use orders::Settings;

fn main() -> ExitCode {
    let settings = chassis::settings::parse::<Settings>();
    let telemetry = settings.common.telemetry.clone();
    chassis::process::run(orders::NAME, &telemetry, |shutdown| orders::run(settings, shutdown))
}
