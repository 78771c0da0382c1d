//! Logs and metrics of a process.

use std::{
    io::IsTerminal,
    sync::OnceLock,
    time::{Duration, Instant},
};

use anyhow::Context;
use clap::ValueEnum;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tracing_subscriber::{EnvFilter, Layer, layer::SubscriberExt, util::SubscriberInitExt};

use self::{brake::Brake, writer::Lines};

mod brake;
mod json;
mod panics;
mod text;
mod writer;

pub use self::writer::DROPPED;

/// Where the lines of this process go.
static LINES: OnceLock<Lines> = OnceLock::new();

/// Buckets for everything measured in seconds: from what a batch takes to what a saga may take.
const SECONDS: [f64; 16] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0];

/// The form of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For people.
    Text,
    /// Text on a terminal, else JSON.
    Auto,
}

/// Sets up logs, the panic hook and the metrics recorder of this process. Call it once.
pub fn init(service: &'static str, format: LogFormat, filter: &str) -> anyhow::Result<()> {
    let filter = EnvFilter::builder()
        .parse(filter)
        .with_context(|| format!("LOG_FILTER {filter:?} is not understood"))?;
    let text = match format {
        LogFormat::Json => false,
        LogFormat::Text => true,
        LogFormat::Auto => std::io::stdout().is_terminal(),
    };
    metrics();
    let brake = Brake::default();
    let held = brake.clone();
    let lines = Lines::start(std::io::stdout(), move || held.sum_up(Instant::now()))
        .context("there is no thread for the log")?;
    let _first = LINES.set(lines.clone());
    let layer = if text {
        let ansi = std::io::stdout().is_terminal();
        brake.before(tracing_subscriber::fmt::layer().with_ansi(ansi).with_writer(lines)).boxed()
    } else {
        brake.before(json::JsonLines::new(service, move |line| lines.push(line))).boxed()
    };
    tracing_subscriber::registry().with(layer.with_filter(filter)).try_init()?;
    std::panic::set_hook(Box::new(panics::log));
    Ok(())
}

/// Waits until what was logged is written, at most for `limit`: before the process ends.
pub fn flush(limit: Duration) {
    if let Some(lines) = LINES.get() {
        lines.flush(limit);
    }
}

/// The process's metrics, for `/metrics`. The first call installs the recorder.
pub fn metrics() -> &'static PrometheusHandle {
    static HANDLE: OnceLock<PrometheusHandle> = OnceLock::new();
    HANDLE.get_or_init(|| {
        let recorder = PrometheusBuilder::new()
            .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS)
            .expect("the list of buckets is not empty")
            .build_recorder();
        let handle = recorder.handle();
        if metrics::set_global_recorder(recorder).is_err() {
            tracing::warn!("another metrics recorder is installed: /metrics will be empty");
        }
        actors::metrics::describe();
        handle
    })
}

#[cfg(test)]
mod tests;
