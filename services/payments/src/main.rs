//! The payments service's process.

use std::process::ExitCode;

use payments::Settings;

fn main() -> ExitCode {
    let settings = chassis::settings::parse::<Settings>();
    let telemetry = settings.common.telemetry.clone();
    chassis::process::run(payments::NAME, &telemetry, |shutdown| payments::run(settings, shutdown))
}
