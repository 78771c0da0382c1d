//! Processes: known by id and start time, ended politely and then not.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use procfs::process::{Process, all_processes};
use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};

/// A process, told apart from a later one that was given the same id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ProcessId {
    /// The system's id.
    pub pid: u32,
    /// When it started, in clock ticks since the machine did.
    pub started: u64,
}

/// When process `pid` started, in ticks; `None` for one that is not there or has died and was not waited for.
fn start_time(pid: u32) -> Option<u64> {
    let stat = Process::new(i32::try_from(pid).ok()?).and_then(|process| process.stat()).ok()?;
    // A dead first thread with others still ending is not the end: their process still has its ports and files.
    let has_died = matches!(stat.state, 'Z' | 'X') && stat.num_threads <= 1;
    (!has_died).then_some(stat.starttime)
}

impl ProcessId {
    /// The process that has this id now.
    pub fn of(pid: u32) -> Option<Self> {
        Some(Self { pid, started: start_time(pid)? })
    }

    /// This process.
    pub fn current() -> Option<Self> {
        Self::of(std::process::id())
    }

    /// Whether it still runs.
    pub fn is_alive(self) -> bool {
        start_time(self.pid) == Some(self.started)
    }

    /// Sends a signal, if it still runs.
    pub fn signal(self, signal: Signal) -> Result<()> {
        let Some(pid) = i32::try_from(self.pid).ok().and_then(Pid::from_raw).filter(|_| self.is_alive())
        else {
            return Ok(());
        };
        match kill_process(pid, signal) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(error) => Err(error).with_context(|| format!("process {} cannot be signalled", self.pid)),
        }
    }

    /// Waits until it has ended; false if it has not by then.
    pub async fn ended_within(self, limit: Duration) -> bool {
        let start = Instant::now();
        while self.is_alive() {
            if start.elapsed() > limit {
                return false;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        true
    }

    /// Asks it to end with `polite`, kills it if it has not within `limit`. True if it ended by itself.
    pub async fn end(self, polite: Signal, limit: Duration) -> Result<bool> {
        self.signal(polite)?;
        if self.ended_within(limit).await {
            return Ok(true);
        }
        self.signal(Signal::KILL)?;
        if !self.ended_within(Duration::from_secs(5)).await {
            bail!("process {} did not end even when killed", self.pid);
        }
        Ok(false)
    }
}

/// Processes that stand still, and go on when this is dropped, however the work under it ends.
#[derive(Debug)]
pub struct Frozen(Vec<ProcessId>);

impl Frozen {
    /// Stops them; one that has ended is passed over.
    pub fn new(processes: Vec<ProcessId>) -> Result<Self> {
        let frozen = Self(processes);
        frozen.0.iter().try_for_each(|process| process.signal(Signal::STOP))?;
        Ok(frozen)
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        for process in &self.0 {
            if let Err(error) = process.signal(Signal::CONT) {
                eprintln!("a process stands still for good: {error:#}");
            }
        }
    }
}

/// Processes whose working directory is `directory` or below it.
pub fn working_in(directory: &Path) -> Vec<ProcessId> {
    let Ok(processes) = all_processes() else { return Vec::new() };
    // One that ends meanwhile works nowhere.
    let processes = processes.filter_map(Result::ok);
    let within = processes.filter(|process| process.cwd().is_ok_and(|cwd| cwd.starts_with(directory)));
    within.filter_map(|process| ProcessId::of(u32::try_from(process.pid()).ok()?)).collect()
}
