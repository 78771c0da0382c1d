//! From parsed settings to an exit code.

use std::{future::Future, process::ExitCode, time::Duration};

use thiserror::Error;

use crate::{
    settings::TelemetryArgs,
    shutdown::{self, Stop},
    telemetry,
};

/// Exit code of an error while running.
pub const EXIT_RUNNING: u8 = 1;
/// Exit code of a start that failed: database, Kafka, migrations, ports. (2 is clap's, for usage.)
pub const EXIT_START: u8 = 3;
/// Exit code of a drain that did not finish in time.
pub const EXIT_DRAIN: u8 = 4;

/// Why a service ended otherwise than by a clean drain.
#[derive(Debug, Error)]
pub enum RunError {
    /// It never served: exit code 3.
    #[error("cannot start")]
    Start(#[source] anyhow::Error),
    /// It served, and then could not go on: exit code 1.
    #[error("stopped by an error")]
    Running(#[source] anyhow::Error),
    /// It was told to stop before it served: exit code 0.
    #[error("stopped before it had started")]
    Stopped,
    /// It was told to stop and did not finish in time: exit code 4. What was not finished is redone by the next owner.
    #[error("the drain did not finish in time")]
    Drain,
}

impl RunError {
    /// For `map_err`: a failed start.
    pub fn start(error: impl Into<anyhow::Error>) -> Self {
        Self::Start(error.into())
    }

    /// For `map_err`: a failure while running.
    pub fn running(error: impl Into<anyhow::Error>) -> Self {
        Self::Running(error.into())
    }

    /// The process's exit code.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Stopped => 0,
            Self::Running(_) => EXIT_RUNNING,
            Self::Start(_) => EXIT_START,
            Self::Drain => EXIT_DRAIN,
        }
    }
}

/// Runs a service until a signal: logs as told, builds the async runtime, gives the service [`shutdown::LIMIT`] to end once
/// the signal came, logs why it ended.
pub fn run<F, Fut>(service: &'static str, telemetry: &TelemetryArgs, main: F) -> ExitCode
where
    F: FnOnce(Stop) -> Fut,
    Fut: Future<Output = Result<(), RunError>>,
{
    if let Err(error) = telemetry::init(service, telemetry) {
        eprintln!("{service}: cannot set up logging and metrics: {error:#}");
        return ExitCode::from(EXIT_START);
    }
    let ended = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => {
            let ended = runtime.block_on(until_signal(main));
            // Blocking threads may be stuck in a server that does not answer.
            runtime.shutdown_timeout(Duration::from_millis(500));
            ended
        }
        Err(error) => Err(RunError::start(error)),
    };
    let code = said(ended);
    telemetry::flush(Duration::from_millis(500));
    code
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
