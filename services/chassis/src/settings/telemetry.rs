//! How to log, and where traces go.

use clap::Args;

use super::TracesArgs;
use crate::telemetry::LogFormat;

/// How to log, and where traces go.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Logging")]
pub struct TelemetryArgs {
    /// JSON lines, text, or auto: text on a terminal, else JSON.
    #[arg(long, env, value_enum, default_value_t = LogFormat::Auto)]
    pub log_format: LogFormat,
    /// What to log: a level, or directives such as `info,actors=debug`. The actor library's own spans say nothing that the
    /// lines do not.
    #[arg(long, env, default_value = "info,ractor=warn")]
    pub log_filter: String,
    /// Where traces go.
    #[command(flatten)]
    pub traces: TracesArgs,
}
