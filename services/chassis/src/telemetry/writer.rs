//! Writes lines from a thread of its own, so that a log nobody reads holds nothing up.
//!
//! The queue before it is bounded. What does not fit is dropped and counted: a consumer that stands still is worse than a log
//! with a gap, and the gap is said.

use std::{
    io::{self, Write},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};

use tracing_subscriber::fmt::MakeWriter;

use super::text;

/// Lines dropped because the log was not taken in time.
pub const DROPPED: &str = "backburner_log_lines_dropped_total";

/// Lines that wait at most: with their longest, 16 MiB.
const QUEUE: usize = 4_096;
/// Between two looks at what else is to be done.
const TICK: Duration = Duration::from_secs(1);
const FLUSH_STEP: Duration = Duration::from_millis(5);

enum Job {
    Line(Vec<u8>),
    /// Everything before this is written when the sender learns of it.
    Flush(SyncSender<()>),
}

/// Where lines go. Cheap to clone.
#[derive(Clone)]
pub(super) struct Lines {
    jobs: SyncSender<Job>,
    dropped: Arc<AtomicU64>,
}

impl Lines {
    /// Begins to write to `out`. `tick` is called about once a second, on the writing thread; it may log.
    pub(super) fn start(
        out: impl Write + Send + 'static,
        tick: impl Fn() + Send + 'static,
    ) -> io::Result<Self> {
        metrics::describe_counter!(
            DROPPED,
            "Log lines dropped because whatever reads the log did not take them in time"
        );
        metrics::counter!(DROPPED).increment(0);
        let (jobs, queue) = sync_channel(QUEUE);
        let lines = Self { jobs, dropped: Arc::default() };
        let dropped = lines.dropped.clone();
        thread::Builder::new().name("log".to_owned()).spawn(move || write(out, &queue, &dropped, tick))?;
        Ok(lines)
    }

    /// Queues a line, with its newline.
    pub(super) fn push(&self, line: Vec<u8>) {
        match self.jobs.try_send(Job::Line(line)) {
            Ok(()) => {}
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                self.dropped.fetch_add(1, Ordering::Relaxed);
                metrics::counter!(DROPPED).increment(1);
            }
        }
    }

    /// Waits until all that was queued is written, at most for `limit`.
    pub(super) fn flush(&self, limit: Duration) {
        let (done, written) = sync_channel(1);
        let (start, mut job) = (Instant::now(), Job::Flush(done));
        while let Err(TrySendError::Full(back)) = self.jobs.try_send(job) {
            if start.elapsed() > limit {
                return;
            }
            job = back;
            thread::sleep(FLUSH_STEP);
        }
        // Otherwise nobody reads the log, and nobody is left to tell.
        let _written = written.recv_timeout(limit.saturating_sub(start.elapsed()));
    }
}

fn write(mut out: impl Write, queue: &Receiver<Job>, dropped: &AtomicU64, tick: impl Fn()) {
    let mut ticked = Instant::now();
    loop {
        let job = match queue.try_recv() {
            Ok(job) => Some(job),
            Err(_) => {
                say_dropped(dropped);
                match queue.recv_timeout(TICK) {
                    Ok(job) => Some(job),
                    Err(RecvTimeoutError::Timeout) => None,
                    Err(RecvTimeoutError::Disconnected) => return,
                }
            }
        };
        // Nobody is left to tell when the log itself cannot be written.
        match job {
            Some(Job::Line(line)) => drop(out.write_all(&line)),
            Some(Job::Flush(done)) => {
                drop(out.flush());
                done.try_send(()).unwrap_or_default();
            }
            None => drop(out.flush()),
        }
        if ticked.elapsed() >= TICK {
            ticked = Instant::now();
            tick();
        }
    }
}

/// The queue is empty: if lines were dropped, that is over.
fn say_dropped(dropped: &AtomicU64) {
    match dropped.swap(0, Ordering::Relaxed) {
        0 => {}
        lines => {
            tracing::warn!(lines, "log lines were dropped: whatever reads this log did not take them in time")
        }
    }
}

/// For the formatter of text: one line a writer.
pub(super) struct Line<'a> {
    lines: &'a Lines,
    bytes: Vec<u8>,
}

impl Write for Line<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Line<'_> {
    fn drop(&mut self) {
        self.lines.push(text::line(&String::from_utf8_lossy(&self.bytes)).into_bytes());
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line { lines: self, bytes: Vec::new() }
    }
}

#[cfg(test)]
mod tests;
