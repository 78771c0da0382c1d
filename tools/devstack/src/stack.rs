//! A stack: the servers and the services, started, found again, stopped.

mod addresses;
mod assign;
mod changes;
mod launch;
mod private;
pub mod state;
mod status;

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result};

use self::state::{Lock, State};
pub use self::{
    changes::{Changed, Down, Up},
    status::{RunState, Status},
};
use crate::{
    os::{launch::Lifetime, paths, process::ProcessId},
    servers::Home,
    topology::{Role, label},
};

/// Which port the gateway takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GatewayPort {
    /// The one it had; else 8000, or any free one when that is taken.
    Usual,
    /// This one or none.
    Exactly(u16),
    /// The one it had, or any free one.
    Any,
}

/// How a stack is run.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Whether its processes outlive this one.
    pub lifetime: Lifetime,
    /// Whether services see only what the stack tells them, not the caller's variables.
    pub hermetic: bool,
    /// The gateway's port.
    pub gateway_port: GatewayPort,
    /// The port by which Kafka is known when somebody stands in front of it, as a test's proxy does.
    pub kafka_front: Option<u16>,
    /// Variables for a service, over those of the stack.
    pub variables: Vec<(Role, String, String)>,
}

/// The processes in one directory.
#[derive(Clone, Debug)]
pub struct Stack {
    root: PathBuf,
    dir: PathBuf,
    binaries: PathBuf,
    settings: Settings,
    state: State,
    /// Whether the directory goes when the stack does.
    temporary: bool,
    http: reqwest::Client,
}

impl Stack {
    /// The project's own stack, in `.devstack`, as it was left.
    pub fn open(settings: Settings) -> Result<Self> {
        let root = paths::project_root()?;
        let dir = root.join(".devstack");
        Self::at(root, dir, settings, false)
    }

    fn at(root: PathBuf, dir: PathBuf, settings: Settings, temporary: bool) -> Result<Self> {
        for sub in ["data", "logs"] {
            let path = dir.join(sub);
            fs::create_dir_all(&path).with_context(|| format!("{} cannot be made", path.display()))?;
        }
        let state = State::load(&dir.join("stack.json"))?;
        let http = reqwest::Client::builder().timeout(Duration::from_secs(5)).no_proxy().build()?;
        let binaries = paths::binaries().unwrap_or_default();
        Ok(Self { root, dir, binaries, settings, state, temporary, http })
    }

    /// What is known of the stack.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// The directory the stack keeps everything in.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The lock for changing the stack.
    pub async fn lock(&self) -> Result<Lock> {
        Lock::take(&self.dir.join("stack.lock"), || eprintln!("waiting for another ./dev command to finish"))
            .await
    }

    /// Reads the state again, as another command may have left it. To be called with the lock held.
    pub fn reload(&mut self) -> Result<()> {
        self.state = State::load(&self.state_path())?;
        Ok(())
    }

    fn state_path(&self) -> PathBuf {
        self.dir.join("stack.json")
    }

    fn save(&self) -> Result<()> {
        self.state.save(&self.state_path())
    }

    /// The log of an instance.
    pub fn log(&self, role: Role, instance: u32) -> PathBuf {
        self.dir.join("logs").join(format!("{}.log", label(role, instance)))
    }

    /// The process of an instance, whether it still runs or not.
    pub fn process(&self, role: Role, instance: u32) -> Result<ProcessId> {
        let process = self.state.entry(role, instance).and_then(|entry| entry.process);
        process.with_context(|| format!("{role} was never started"))
    }

    /// Where a server of it lives.
    pub fn home(&self, role: Role) -> Home {
        Home {
            root: self.root.clone(),
            directory: self.dir.join("data").join(role.name()),
            log: self.log(role, 1),
        }
    }

    /// Says at which port Kafka's clients find somebody who hands on to it; from its next start on.
    pub fn set_kafka_front(&mut self, port: u16) {
        self.settings.kafka_front = Some(port);
    }

    /// Says which port the gateway takes at its next start.
    pub fn set_gateway_port(&mut self, port: GatewayPort) {
        self.settings.gateway_port = port;
    }

    /// Sets a variable for a service from its next start on.
    pub fn set_variable(&mut self, role: Role, name: &str, value: &str) {
        self.settings.variables.retain(|(other, known, _)| (*other, known.as_str()) != (role, name));
        self.settings.variables.push((role, name.to_owned(), value.to_owned()));
    }
}
