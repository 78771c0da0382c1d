//! How a process ends: its exit codes, and what each of them means.

use thiserror::Error;

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
