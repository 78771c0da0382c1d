//! Posts spans, many at a time, on a thread of its own.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::Context;
use opentelemetry::InstrumentationScope;
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::{
    Resource,
    trace::{SpanData, SpanExporter as _},
};
use tokio::{
    sync::mpsc::Receiver,
    time::{Instant as Due, timeout_at},
};

use super::{
    client::Poster,
    convert::convert,
    queue::{Job, Queue, count},
};

/// Most spans of one post.
const BATCH: usize = 512;
/// How long the first span of a post waits for others.
const DELAY: Duration = Duration::from_secs(1);
/// What goes on being wrong is said this often.
const REPEATED: Duration = Duration::from_secs(60);
/// Longest word of a collector in a log line, characters.
const SHOWN: usize = 300;

/// Starts the thread; it runs for as long as the process.
///
/// # Errors
/// When the settings in the environment cannot be followed, or there is no thread.
pub(super) fn start(service: &str, target: &str) -> anyhow::Result<Queue> {
    let mut exporter = SpanExporter::builder()
        .with_http()
        .with_http_client(Poster::new())
        .with_endpoint(target)
        .with_protocol(Protocol::HttpBinary)
        .build()
        .context("the OTEL_EXPORTER_OTLP_ variables cannot be followed")?;
    let resource = Resource::builder().with_service_name(service.to_owned());
    exporter.set_resource(&resource.build());
    let (queue, jobs) = Queue::new();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let scope = InstrumentationScope::builder("backburner").with_version(env!("CARGO_PKG_VERSION")).build();
    let mut poster = Posting { exporter, scope, queue: queue.clone(), said: Said::default() };
    let run = move || runtime.block_on(poster.run(jobs));
    thread::Builder::new().name("traces".to_owned()).spawn(run).context("there is no thread for traces")?;
    Ok(queue)
}

struct Posting {
    exporter: SpanExporter,
    scope: InstrumentationScope,
    queue: Queue,
    said: Said,
}

impl Posting {
    async fn run(&mut self, mut jobs: Receiver<Job>) {
        while let Some(first) = jobs.recv().await {
            let due = Due::now() + DELAY;
            let (mut spans, mut flushed, mut next) = (Vec::new(), None, Some(first));
            while let Some(job) = next {
                match job {
                    Job::Span(span) => spans.push(convert(*span, &self.scope)),
                    Job::Flush(done) => flushed = Some(done),
                }
                if spans.len() >= BATCH || flushed.is_some() {
                    break;
                }
                // At the time, or when nobody can tell anything any more, with what there is.
                next = timeout_at(due, jobs.recv()).await.ok().flatten();
            }
            self.post(spans).await;
            drop(flushed);
        }
    }

    async fn post(&mut self, spans: Vec<SpanData>) {
        if spans.is_empty() {
            return;
        }
        let count_of = spans.len();
        // Tries again for a while by itself, where that may help.
        let posted = self.exporter.export(spans).await;
        count(if posted.is_ok() { "exported" } else { "failed" }, count_of);
        let failed = posted.err().map(|error| (count_of, error.to_string().chars().take(SHOWN).collect()));
        self.said.say(failed, self.queue.take_dropped(), Instant::now());
    }
}

/// What was said of trouble, so that it is not said with each post.
#[derive(Debug, Default)]
struct Said {
    at: Option<Instant>,
    failed: usize,
    dropped: u64,
}

impl Said {
    fn say(&mut self, failed: Option<(usize, String)>, dropped: u64, now: Instant) {
        self.dropped += dropped;
        let error = failed.map(|(spans, error)| {
            self.failed += spans;
            error
        });
        if error.is_none() && self.dropped == 0 {
            if self.at.take().is_some() {
                tracing::info!("the collector takes traces again");
            }
            return;
        }
        if self.at.is_none_or(|at| now - at >= REPEATED) {
            let (failed, dropped) = (std::mem::take(&mut self.failed), std::mem::take(&mut self.dropped));
            tracing::warn!(
                failed,
                dropped,
                error,
                "spans are lost: the collector does not take them, or not as fast as they come"
            );
            self.at = Some(now);
        }
    }
}

#[cfg(test)]
mod tests;
