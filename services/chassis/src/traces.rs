//! Traces of a process: spans of requests, records and what is sent, by OTLP to a collector.
//!
//! Spans wait in a queue with a bound and are posted by a thread of their own: who tells one waits for nobody, and a collector that is
//! gone, slow or refuses costs spans and nothing else.
//!
//! - `sampler`: which traces are told. `queue`: spans on their way; `exporter`: who posts them, `client`: how; `convert`: what they are in
//!   OpenTelemetry's words. `server`: the span of a request.

mod client;
mod convert;
mod exporter;
mod queue;
mod sampler;
mod server;

use std::time::{Duration, SystemTime};

use actors::trace::{self, Kind, Recorder, Span, TraceParent};
use anyhow::Context;

use self::queue::Queue;
pub(crate) use self::server::ServerSpan;
pub use self::{queue::SPANS, sampler::Sampler};
use crate::{correlation::Correlation, settings::TracesArgs};

/// What takes this process's spans.
struct Exported {
    sampler: Sampler,
    ratio: f64,
    queue: Queue,
}

impl Recorder for Exported {
    fn samples(&self, trace_id: u128, parent: Option<TraceParent>) -> bool {
        self.sampler.samples(self.ratio, trace_id, parent)
    }

    fn record(&self, span: Span) {
        self.queue.push(span);
    }
}

/// The way out of this process, to be flushed at its end.
#[derive(Debug)]
pub struct Traces(Option<Queue>);

impl Traces {
    /// Begins to tell of spans, where there is somebody to tell.
    ///
    /// # Errors
    /// When the settings cannot be followed, there is no thread, or it was begun before.
    pub fn start(service: &'static str, settings: &TracesArgs) -> anyhow::Result<Self> {
        queue::describe();
        let Some(target) = settings.target() else { return Ok(Self(None)) };
        let name = settings.otel_service_name.as_deref().unwrap_or(service);
        let queue = exporter::start(name, &target)?;
        let (sampler, ratio) = (settings.otel_traces_sampler, settings.otel_traces_sampler_arg);
        trace::install(Box::new(Exported { sampler, ratio, queue: queue.clone() })).context("traces")?;
        tracing::info!(target, service = name, ?sampler, ratio, "traces are sent by OTLP");
        Ok(Self(Some(queue)))
    }

    /// Waits until what was told is posted, at most for `limit`; what is not is lost.
    pub fn flush(&self, limit: Duration) {
        if let Some(queue) = &self.0 {
            queue.flush(limit);
        }
    }
}

/// Tells of work that nobody outside asked for and that begins the trace of `correlation`, once it is committed.
pub fn began(name: &'static str, correlation: &Correlation, started: SystemTime) {
    let Some(recorder) = trace::recorder() else { return };
    let Some(context) = TraceParent::parse(&correlation.traceparent) else { return };
    if recorder.samples(context.trace_id, None) {
        recorder.record(Span {
            name: name.to_owned(),
            kind: Kind::Internal,
            context,
            parent: None,
            links: Vec::new(),
            started,
            ended: SystemTime::now(),
            attributes: vec![("backburner.correlation_id", correlation.id.clone().into())],
            error: None,
        });
    }
}
