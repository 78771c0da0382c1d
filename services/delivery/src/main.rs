//! The delivery service's process.

use std::process::ExitCode;

use delivery::Settings;

fn main() -> ExitCode {
    let settings = chassis::settings::parse::<Settings>();
    let telemetry = settings.common.telemetry.clone();
    chassis::process::run(delivery::NAME, &telemetry, |shutdown| delivery::run(settings, shutdown))
}
