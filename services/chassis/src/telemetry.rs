//! Logs and metrics of a process.

use std::{io::IsTerminal, sync::OnceLock};

use anyhow::Context;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tracing_subscriber::{EnvFilter, Layer, layer::SubscriberExt, util::SubscriberInitExt};

use crate::settings::{LogFormat, TelemetryArgs};

mod json;

/// Buckets for everything measured in seconds: from what a batch takes to what a saga may take.
const SECONDS: [f64; 16] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0];

/// Sets up logs, the panic hook and the metrics recorder of this process. Call it once.
pub fn init(service: &'static str, args: &TelemetryArgs) -> anyhow::Result<()> {
    let filter = EnvFilter::builder()
        .parse(&args.log_filter)
        .with_context(|| format!("LOG_FILTER {:?} is not understood", args.log_filter))?;
    let text = match args.log_format {
        LogFormat::Json => false,
        LogFormat::Text => true,
        LogFormat::Auto => std::io::stdout().is_terminal(),
    };
    let layer = if text {
        tracing_subscriber::fmt::layer().with_ansi(std::io::stdout().is_terminal()).boxed()
    } else {
        json::JsonLines::new(service, std::io::stdout()).boxed()
    };
    tracing_subscriber::registry().with(layer.with_filter(filter)).try_init()?;
    std::panic::set_hook(Box::new(log_panic));
    metrics();
    Ok(())
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

fn log_panic(info: &std::panic::PanicHookInfo<'_>) {
    let message = info.payload_as_str().unwrap_or("a panic without a message");
    let location = info.location().map(ToString::to_string);
    let thread = std::thread::current();
    let thread = thread.name().unwrap_or("unnamed");
    let backtrace = std::backtrace::Backtrace::capture();
    let backtrace = match backtrace.status() {
        std::backtrace::BacktraceStatus::Captured => Some(backtrace.to_string()),
        _ => None,
    };
    tracing::error!(panic = message, location, thread, backtrace, "panicked");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_in_buckets_and_the_runtimes_metrics_are_described() {
        let handle = metrics();
        metrics::histogram!("trial_seconds").record(0.003);
        metrics::counter!(actors::metrics::RECORDS, "outcome" => "applied").increment(1);
        let text = handle.render();
        assert!(text.contains(r#"trial_seconds_bucket{le="0.005"} 1"#), "{text}");
        assert!(text.contains("# HELP backburner_records_total Records by outcome"), "{text}");
    }
}
