//! Processes: started so that they die with us or outlive us, known by id and start time, ended politely and then not.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Seek as _, SeekFrom},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{OnceLock, mpsc},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, bail};
use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};

/// A process, told apart from a later one that was given the same id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessId {
    /// The system's id.
    pub pid: u32,
    /// When it started, in clock ticks since the machine did.
    pub started: u64,
}

/// How long a process lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lifetime {
    /// It is killed when this process ends, however it ends.
    Attached,
    /// It goes on when this process ends.
    Detached,
}

/// A program to start.
#[derive(Clone, Debug)]
pub struct Launch {
    /// Program and arguments.
    pub command: Vec<String>,
    /// Variables to set.
    pub variables: Vec<(String, String)>,
    /// Whether it sees only those variables and a few of the system's, not the caller's.
    pub hermetic: bool,
    /// Where it works.
    pub directory: PathBuf,
    /// File that what it prints is appended to.
    pub log: PathBuf,
    /// Signal that ends it at once when we have gone, for an attached one.
    pub death: &'static str,
    /// User to run as, when another than ours.
    pub user: Option<RunAs>,
}

/// Another user to run as; only root can.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunAs {
    /// The user's name; its group is called the same.
    pub name: &'static str,
    /// Let it pass through directories that are closed to it, as a checkout below `/root` is.
    pub pass_directories: bool,
}

impl RunAs {
    /// The words that, put before a command, run it as that user.
    pub fn words(self) -> Vec<String> {
        let mut words =
            vec![format!("--reuid={}", self.name), format!("--regid={}", self.name), "--init-groups".into()];
        if self.pass_directories {
            words.extend(["--inh-caps=+dac_read_search".into(), "--ambient-caps=+dac_read_search".into()]);
        }
        words
    }
}

/// Variables of the system that a hermetic process still sees.
const SYSTEM: [&str; 6] = ["PATH", "HOME", "LANG", "TMPDIR", "JAVA_HOME", "RUST_BACKTRACE"];
/// A log larger than this is set aside when its process starts.
const LOG_LIMIT: u64 = 64 << 20;

type Order = (Command, mpsc::Sender<io::Result<u32>>);

/// Starts `launch`. The caller's id becomes the process's own session, so that Ctrl-C reaches us and not it.
pub fn start(launch: &Launch, lifetime: Lifetime) -> Result<ProcessId> {
    let mut words: Vec<String> = vec!["setsid".into()];
    let mut set: Vec<String> = launch.user.map(RunAs::words).unwrap_or_default();
    if lifetime == Lifetime::Attached {
        set.push(format!("--pdeathsig={}", launch.death));
    }
    if !set.is_empty() {
        words.push("setpriv".into());
        words.append(&mut set);
        words.push("--".into());
    }
    words.extend(launch.command.iter().cloned());
    let log = open_log(&launch.log)?;
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]).current_dir(&launch.directory).stdin(Stdio::null());
    command.stdout(log.try_clone().context("the log cannot be opened twice")?).stderr(log);
    if launch.hermetic {
        command.env_clear();
        command.envs(SYSTEM.iter().filter_map(|name| Some((name, std::env::var_os(name)?))));
    }
    command.envs(launch.variables.iter().map(|(name, value)| (name, value)));

    let (answer, answered) = mpsc::channel();
    spawner().send((command, answer)).map_err(|_| anyhow!("the spawning thread has ended"))?;
    let pid = answered.recv().context("the spawning thread has ended")?.with_context(|| {
        format!("{} cannot be started (are setsid and setpriv of util-linux there?)", words[0])
    })?;
    let started = start_time(pid).unwrap_or_default();
    Ok(ProcessId { pid, started })
}

/// The thread that starts every process. A death signal is tied to the *thread* that started the child: this one lives as
/// long as the process, whichever test or task asked for the child.
fn spawner() -> &'static mpsc::Sender<Order> {
    static SPAWNER: OnceLock<mpsc::Sender<Order>> = OnceLock::new();
    SPAWNER.get_or_init(|| {
        let (orders, inbox) = mpsc::channel::<Order>();
        thread::Builder::new()
            .name("spawner".into())
            .spawn(move || {
                for (mut command, answer) in inbox {
                    let spawned = command.spawn().map(|mut child| {
                        let pid = child.id();
                        // Waited for, so that a child that died does not stay as a zombie.
                        thread::spawn(move || child.wait());
                        pid
                    });
                    // The one who asked may have given up; then nobody wants the answer.
                    drop(answer.send(spawned));
                }
            })
            .expect("a thread can be started while the program starts its children");
        orders
    })
}

fn open_log(path: &Path) -> Result<File> {
    if fs::metadata(path).is_ok_and(|meta| meta.len() > LOG_LIMIT) {
        fs::rename(path, path.with_extension("log.1"))
            .with_context(|| format!("{} cannot be moved", path.display()))?;
    }
    OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o644)
        .open(path)
        .with_context(|| format!("{} cannot be written", path.display()))
}

/// When process `pid` started, in ticks; `None` for one that is not there or has died and was not waited for.
fn start_time(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the program's name in parentheses and may hold anything; what follows its last `)` is plain.
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    let state = fields.next()?;
    let threads: u32 = fields.nth(16)?.parse().ok()?;
    // A dead first thread with others still ending is not the end: their process still has its ports and files.
    if matches!(state, "Z" | "X") && threads <= 1 {
        return None;
    }
    fields.nth(1)?.parse().ok()
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

/// Processes whose working directory is `directory` or below it.
pub fn working_in(directory: &Path) -> Vec<ProcessId> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd.starts_with(directory)))
        .filter_map(ProcessId::of)
        .collect()
}

/// The last `lines` lines of a log.
pub fn tail(path: &Path, lines: usize) -> String {
    let text = read_end(path, 64 << 10).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

/// The last `bytes` bytes of a file: a log may be large.
fn read_end(path: &Path, bytes: u64) -> io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(bytes)))?;
    let mut end = Vec::new();
    file.take(bytes).read_to_end(&mut end)?;
    Ok(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sleeper(dir: &Path) -> Launch {
        Launch {
            command: ["sh", "-c", "echo hello; exec sleep 600"].map(String::from).to_vec(),
            variables: Vec::new(),
            hermetic: true,
            directory: dir.to_owned(),
            log: dir.join("sleeper.log"),
            death: "KILL",
            user: None,
        }
    }

    #[tokio::test]
    async fn a_process_is_known_until_it_ends_and_what_it_said_is_kept() {
        let dir = tempfile::tempdir().expect("a directory");
        let process = start(&sleeper(dir.path()), Lifetime::Attached).expect("starts");
        assert!(process.is_alive());
        assert!(working_in(dir.path()).contains(&process));
        let another = ProcessId { started: process.started + 1, ..process };
        assert!(!another.is_alive(), "the same id with another start is another process");
        another.signal(Signal::KILL).expect("signalling what is gone is no error");
        assert!(process.is_alive());
        let start = Instant::now();
        while tail(&dir.path().join("sleeper.log"), 5) != "hello" {
            assert!(start.elapsed() < Duration::from_secs(10), "nothing was logged");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert!(process.end(Signal::TERM, Duration::from_secs(5)).await.expect("ends"));
        assert!(!process.is_alive());
    }
}
