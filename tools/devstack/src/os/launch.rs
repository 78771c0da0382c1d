//! Starting processes so that they die with us or outlive us.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{OnceLock, mpsc},
    thread,
};

use anyhow::{Context, Result, anyhow};

use super::process::ProcessId;

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
    // One that has ended already is no process that lives.
    Ok(ProcessId::of(pid).unwrap_or(ProcessId { pid, started: 0 }))
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

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use rustix::process::Signal;

    use super::*;
    use crate::os::{logs::last_lines, process::working_in};

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
        while last_lines(&dir.path().join("sleeper.log"), 5) != "hello" {
            assert!(start.elapsed() < Duration::from_secs(10), "nothing was logged");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert!(process.end(Signal::TERM, Duration::from_secs(5)).await.expect("ends"));
        assert!(!process.is_alive());
    }
}
