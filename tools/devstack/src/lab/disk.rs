//! PostgreSQL on a slow disk: each of its `fsync` and `fdatasync` takes longer, and nothing else does by more than it costs to look.
//!
//! Whatever PostgreSQL promises its clients waits for these two. Each of its processes is traced (ptrace) by a thread of ours, which
//! lets every other system call pass at once and holds these: half of the time before the call, half after it.

use std::{
    collections::{HashMap, HashSet},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use anyhow::{Context, Result, anyhow};
use nix::{
    libc,
    sys::{
        ptrace,
        signal::{Signal, kill},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::Pid,
};
use procfs::process::{Process, Syscall};

use crate::os::process::{ProcessId, working_in};

/// New processes, as there are for new connections, are slow from so much later on.
const LOOK: Duration = Duration::from_millis(20);

/// A slow disk, for as long as this is there.
#[derive(Debug)]
pub(super) struct SlowDisk {
    over: Arc<AtomicBool>,
    held: Arc<AtomicU64>,
    watch: Option<thread::JoinHandle<()>>,
}

impl SlowDisk {
    /// Makes the disk slow by `delay` for each call of those that work in `directory`, but for our own child, the postmaster, which
    /// writes nothing: whoever waits for the end of a child is told when that stops, in place of its tracer.
    ///
    /// # Errors
    /// Where the system does not let us trace them.
    pub(super) fn new(directory: PathBuf, delay: Duration) -> Result<Self> {
        let (over, held) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (first, began) = mpsc::channel();
        let watch = thread::Builder::new().name("slow-disk".into()).spawn({
            let (over, held) = (over.clone(), held.clone());
            move || watch(&directory, delay, &over, &held, &first)
        })?;
        let disk = Self { over, held, watch: Some(watch) };
        began.recv().context("the thread that watches PostgreSQL's processes has ended")??;
        Ok(disk)
    }

    /// How many calls were held until now.
    pub(super) fn held(&self) -> u64 {
        self.held.load(Ordering::Relaxed)
    }
}

impl Drop for SlowDisk {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if self.watch.take().is_some_and(|watch| watch.join().is_err()) {
            eprintln!("the thread that traced PostgreSQL has panicked; its processes go on");
        }
    }
}

/// Traces every process of the directory until it is over, each by a thread of its own: whoever attached has to detach.
fn watch(
    directory: &std::path::Path,
    delay: Duration,
    over: &Arc<AtomicBool>,
    held: &Arc<AtomicU64>,
    first: &mpsc::Sender<Result<()>>,
) {
    let mut tracers: HashMap<ProcessId, thread::JoinHandle<()>> = HashMap::new();
    let mut refused: HashSet<ProcessId> = HashSet::new();
    let mut first = Some(first);
    while !over.load(Ordering::Relaxed) {
        let mut attached = 0;
        let mut why = None;
        for process in working_in(directory) {
            if is_ours(process) || tracers.contains_key(&process) || refused.contains(&process) {
                continue;
            }
            match trace(process, delay, over.clone(), held.clone()) {
                Ok(tracer) => {
                    attached += 1;
                    tracers.insert(process, tracer);
                }
                Err(error) => {
                    refused.insert(process);
                    why = Some(error);
                }
            }
        }
        if let Some(first) = first.take() {
            let begun = match why {
                // One may have ended meanwhile; all of them have not.
                Some(error) if attached == 0 => Err(error),
                _ if attached == 0 => Err(anyhow!("no process of PostgreSQL runs")),
                _ => Ok(()),
            };
            // Whoever asked waits for it.
            first.send(begun).unwrap_or_default();
        }
        thread::sleep(LOOK);
    }
    // One that waits for its client makes no call by itself: a signal that means nothing to it lets its tracer look up. Again until
    // all have, since it may come while they do not wait.
    while tracers.values().any(|tracer| !tracer.is_finished()) {
        for process in tracers.keys() {
            if let Ok(pid) = i32::try_from(process.pid)
                && process.is_alive()
            {
                // One that has ended needs none.
                kill(Pid::from_raw(pid), Signal::SIGWINCH).unwrap_or_default();
            }
        }
        thread::sleep(Duration::from_millis(5));
    }
}

/// Whether it is a child of this process. One that has ended is traced by nobody either.
fn is_ours(process: ProcessId) -> bool {
    let stat = i32::try_from(process.pid).ok().and_then(|pid| Process::new(pid).ok()?.stat().ok());
    stat.is_none_or(|stat| u32::try_from(stat.ppid) == Ok(std::process::id()))
}

fn trace(
    process: ProcessId,
    delay: Duration,
    over: Arc<AtomicBool>,
    held: Arc<AtomicU64>,
) -> Result<thread::JoinHandle<()>> {
    let pid = Pid::from_raw(i32::try_from(process.pid)?);
    let (attached, is_attached) = mpsc::channel();
    let tracer = thread::Builder::new().name("slow-disk-trace".into()).spawn(move || {
        let begun = begin(pid);
        let has_begun = begun.is_ok();
        attached.send(begun).unwrap_or_default();
        if has_begun {
            hold(pid, delay, &over, &held);
        }
    })?;
    let begun = is_attached.recv().context("a tracer has ended")?;
    begun.with_context(|| {
        format!("process {pid} of PostgreSQL cannot be traced (ptrace), and slow-disk needs that")
    })?;
    Ok(tracer)
}

fn begin(pid: Pid) -> nix::Result<()> {
    ptrace::seize(pid, ptrace::Options::PTRACE_O_TRACESYSGOOD)?;
    ptrace::interrupt(pid)?;
    waitpid(pid, Some(WaitPidFlag::__WALL))?;
    ptrace::syscall(pid, None)
}

/// Lets a process go from system call to system call, and holds those that wait for the disk, until it is over or the process ends.
fn hold(pid: Pid, delay: Duration, over: &AtomicBool, held: &AtomicU64) {
    let waits = |call: i64| call == libc::SYS_fsync || call == libc::SYS_fdatasync;
    let mut counted = false;
    loop {
        let signal = match waitpid(pid, Some(WaitPidFlag::__WALL)) {
            Ok(WaitStatus::PtraceSyscall(_)) => {
                let call = Process::new(pid.as_raw()).and_then(|process| process.syscall());
                if let Ok(Syscall::Blocked { syscall_number, .. }) = call
                    && waits(syscall_number)
                    && !over.load(Ordering::Relaxed)
                {
                    // Each is met twice, as it begins and as it ends.
                    held.fetch_add(u64::from(counted), Ordering::Relaxed);
                    counted = !counted;
                    thread::sleep(delay / 2);
                }
                None
            }
            Ok(WaitStatus::Stopped(_, Signal::SIGWINCH)) if over.load(Ordering::Relaxed) => None,
            Ok(WaitStatus::Stopped(_, signal)) => Some(signal),
            Ok(WaitStatus::PtraceEvent(..)) => None,
            // It has ended.
            _ => return,
        };
        let ends = over.load(Ordering::Relaxed);
        let goes_on = if ends { ptrace::detach(pid, signal) } else { ptrace::syscall(pid, signal) };
        // Free, or killed meanwhile.
        if ends || goes_on.is_err() {
            return;
        }
    }
}
