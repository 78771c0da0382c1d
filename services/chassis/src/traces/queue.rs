//! Spans on their way to who posts them.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{SyncSender, sync_channel},
    },
    time::{Duration, Instant},
};

use actors::trace::Span;
use tokio::sync::mpsc::{Receiver, Sender, channel, error::TrySendError};

/// Spans by what became of them. Label: outcome.
pub const SPANS: &str = "backburner_trace_spans_total";

/// Spans that may wait, some 1 kB each.
const WAITING: usize = 8_192;
/// While there is no room for a word at the end, it is tried again after this.
const PAUSE: Duration = Duration::from_millis(5);

/// Makes the metrics, at 0.
pub(super) fn describe() {
    metrics::describe_counter!(
        SPANS,
        "Spans by what became of them: exported, dropped since too many waited, failed since the collector did not take them"
    );
    for outcome in ["exported", "dropped", "failed"] {
        count(outcome, 0);
    }
}

pub(super) fn count(outcome: &'static str, spans: usize) {
    let spans = u64::try_from(spans).unwrap_or(u64::MAX);
    metrics::counter!(SPANS, "outcome" => outcome).increment(spans);
}

/// What is to be done.
#[derive(Debug)]
pub(super) enum Job {
    /// To be posted.
    Span(Box<Span>),
    /// Dropped when everything before it is posted.
    Flush(SyncSender<()>),
}

/// Where spans go in. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Queue {
    jobs: Sender<Job>,
    dropped: Arc<AtomicU64>,
}

impl Queue {
    /// A queue, and where jobs come out.
    pub(super) fn new() -> (Self, Receiver<Job>) {
        let (jobs, queue) = channel(WAITING);
        (Self { jobs, dropped: Arc::default() }, queue)
    }

    /// Puts a span in, if there is room.
    pub(super) fn push(&self, span: Span) {
        if self.jobs.try_send(Job::Span(Box::new(span))).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
            count("dropped", 1);
        }
    }

    /// How many there was no room for since this was asked last.
    pub(super) fn take_dropped(&self) -> u64 {
        self.dropped.swap(0, Ordering::Relaxed)
    }

    /// Waits until everything in it is posted, or given up, at most for `limit`.
    pub(super) fn flush(&self, limit: Duration) {
        let (started, (done, posted)) = (Instant::now(), sync_channel(0));
        let mut job = Job::Flush(done);
        while let Err(error) = self.jobs.try_send(job) {
            match error {
                TrySendError::Full(back) if started.elapsed() < limit => job = back,
                // What is left is lost.
                TrySendError::Full(_) | TrySendError::Closed(_) => return,
            }
            std::thread::sleep(PAUSE);
        }
        // Ends with an error in any case: nothing is sent, it is dropped or its time is over.
        let _over = posted.recv_timeout(limit.saturating_sub(started.elapsed()));
    }
}
