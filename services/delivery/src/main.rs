//! The delivery service's process.

use std::process::ExitCode;

use delivery::settings::Settings;

fn main() -> ExitCode {
    let settings = chassis::settings::parse::<Settings>();
    let telemetry = settings.common.telemetry.clone();
    chassis::process::run("delivery", &telemetry, |stop| delivery::run(settings, stop))
}
