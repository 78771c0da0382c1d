//! From parsed settings to an exit code.

use std::{future::Future, process::ExitCode, time::Duration};

use crate::{
    exit::{EXIT_START, RunError},
    settings::TelemetryArgs,
    shutdown::{self, Stop},
    telemetry,
    traces::Traces,
};

/// The collector is given this long at the end: what is left of [`shutdown::LIMIT`] when all before it took as long as it may.
const TRACES_LIMIT: Duration = Duration::from_millis(500);

/// Runs a service until a signal: logs as told, builds the async runtime, gives the service [`shutdown::LIMIT`] to end once
/// the signal came, logs why it ended.
pub fn run<F, Fut>(service: &'static str, telemetry: &TelemetryArgs, main: F) -> ExitCode
where
    F: FnOnce(Stop) -> Fut,
    Fut: Future<Output = Result<(), RunError>>,
{
    if let Err(error) = telemetry::init(service, telemetry.log_format, &telemetry.log_filter) {
        eprintln!("{service}: cannot set up logging and metrics: {error:#}");
        return ExitCode::from(EXIT_START);
    }
    let code = match Traces::start(service, &telemetry.traces) {
        Ok(traces) => {
            let code = said(run_until_signal(main));
            traces.flush(TRACES_LIMIT);
            code
        }
        Err(error) => said(Err(RunError::Start(error.context("cannot set up traces")))),
    };
    telemetry::flush(Duration::from_millis(500));
    code
}

fn run_until_signal<F, Fut>(main: F) -> Result<(), RunError>
where
    F: FnOnce(Stop) -> Fut,
    Fut: Future<Output = Result<(), RunError>>,
{
    match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => {
            let ended = runtime.block_on(until_signal(main));
            // Blocking threads may be stuck in a server that does not answer.
            runtime.shutdown_timeout(Duration::from_millis(500));
            ended
        }
        Err(error) => Err(RunError::start(error)),
    }
}

fn said(ended: Result<(), RunError>) -> ExitCode {
    match ended {
        Ok(()) => {
            tracing::info!("ended after a clean drain");
            ExitCode::SUCCESS
        }
        Err(error @ RunError::Stopped) => {
            tracing::info!("{error}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            let exit_code = error.exit_code();
            let error = format!("{:#}", anyhow::Error::from(error));
            tracing::error!(error, exit_code, "ended");
            ExitCode::from(exit_code)
        }
    }
}

async fn until_signal<F, Fut>(main: F) -> Result<(), RunError>
where
    F: FnOnce(Stop) -> Fut,
    Fut: Future<Output = Result<(), RunError>>,
{
    let signal = shutdown::on_signal().map_err(RunError::start)?;
    let (trigger, listener) = shutdown::trigger();
    let main = main(Box::pin(listener.fired()));
    let limit = async {
        signal.await;
        trigger.fire();
        tokio::time::sleep(shutdown::LIMIT - Duration::from_secs(1)).await;
    };
    tokio::select! {
        ended = main => ended,
        () = limit => Err(RunError::Drain),
    }
}
