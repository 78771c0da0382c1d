//! A stack: the servers and the services, started, found again, stopped.

mod assign;
mod changes;
mod launch;
mod private;
pub mod state;

use std::{
    collections::BTreeMap,
    env, fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result};
use rustix::process::Signal;
use serde::Serialize;

use crate::{
    os::{
        paths,
        process::{Lifetime, ProcessId},
    },
    servers::{Home, kafka, postgres},
    topology::{self, DATABASES, GATEWAY_URL, KAFKA_BROKERS, REDIS_URL, Role},
};

pub use self::changes::{Down, Up};
use self::state::{Entry, Lock, State};

/// Time a service is given to drain: what it promises, and some.
const DRAIN: Duration = Duration::from_secs(12);

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

/// A process as `status` shows it.
#[derive(Clone, Debug, Serialize)]
pub struct Status {
    /// Its name.
    pub name: Role,
    /// 1 for the first of its kind.
    pub instance: u32,
    /// Its process id, while it runs.
    pub pid: Option<u32>,
    /// `host:port` of what it serves, or its admin port.
    pub address: Option<String>,
    /// Base URL of its admin port.
    pub admin_url: Option<String>,
    /// Whether it runs.
    pub state: RunState,
}

/// Whether a process runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum RunState {
    /// It runs.
    Running,
    /// It does not.
    Dead,
    /// Others run it.
    External,
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
        let label = self.state.entry(role, instance).map_or_else(|| role.to_string(), Entry::label);
        self.dir.join("logs").join(format!("{label}.log"))
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

    /// The address of a server or database, by its variable's name.
    pub fn url(&self, variable: &str) -> Result<&str> {
        let url = self.state.urls.get(variable).map(String::as_str);
        url.with_context(|| {
            format!("{variable} is not known: the stack was never started; run `./dev up --detach`")
        })
    }

    /// The gateway's base URL.
    pub fn gateway_url(&self) -> Result<String> {
        let port = self.state.entry(Role::Gateway, 1).and_then(|entry| entry.port);
        Ok(format!(
            "http://127.0.0.1:{}",
            port.context("the gateway was never started; run `./dev up --detach`")?
        ))
    }

    /// A service's admin URL.
    pub fn admin_url(&self, role: Role, instance: u32) -> Result<String> {
        let url = self.state.entry(role, instance).and_then(Entry::admin_url);
        url.with_context(|| format!("{role} was never started; run `./dev up --detach`"))
    }

    /// The variables that tell a program where everything is.
    pub fn environment(&self) -> BTreeMap<String, String> {
        let mut variables = self.state.urls.clone();
        if let Ok(url) = self.gateway_url() {
            variables.insert(GATEWAY_URL.into(), url);
        }
        for entry in &self.state.entries {
            if let Some(url) = entry.admin_url() {
                variables.insert(topology::admin_variable(entry.role, entry.instance), url);
            }
        }
        variables
    }

    /// The variables that tests and benches need to use the servers: where they are, PostgreSQL as its
    /// superuser, and what their TLS needs.
    pub fn test_environment(&self) -> Result<BTreeMap<String, String>> {
        let port = self.state.entry(Role::Postgres, 1).and_then(|entry| entry.port);
        let mut variables = self.state.urls.clone();
        let url = postgres::url(port.context("PostgreSQL was never started")?, "postgres");
        variables.insert(topology::TEST_POSTGRES_URL.into(), url);
        let sasl = self.state.entry(Role::Kafka, 1).and_then(|entry| entry.sasl_port);
        let sasl = format!("127.0.0.1:{}", sasl.context("Kafka was never started")?);
        variables.insert(topology::TEST_KAFKA_SASL_BROKERS.into(), sasl);
        let files = [
            (topology::TEST_KAFKA_CONFIG_FILE, kafka::client_file(&self.home(Role::Kafka))),
            (topology::TEST_POSTGRES_ROOT_CERT, postgres::root_certificate(&self.home(Role::Postgres))),
        ];
        variables.extend(files.map(|(name, path)| (name.to_owned(), path.display().to_string())));
        Ok(variables)
    }

    /// Every process of the stack and whether it runs.
    pub fn status(&self) -> Vec<Status> {
        let mut all: Vec<(Role, u32)> = Role::ALL.map(|role| (role, 1)).to_vec();
        all.extend(self.state.entries.iter().map(|entry| (entry.role, entry.instance)));
        all.extend(self.state.wanted());
        all.sort_by_key(|(role, instance)| (Role::ALL.iter().position(|one| one == role), *instance));
        all.dedup();
        all.retain(|(role, instance)| {
            *instance == 1
                || self.state.entry(*role, *instance).is_some_and(Entry::is_running)
                || self.state.wanted().contains(&(*role, *instance))
        });
        all.into_iter().map(|(role, instance)| self.status_of(role, instance)).collect()
    }

    fn status_of(&self, role: Role, instance: u32) -> Status {
        let entry = self.state.entry(role, instance);
        let running = entry.filter(|entry| entry.is_running());
        let external = self.state.is_external(role);
        let state = match running {
            _ if external => RunState::External,
            Some(_) => RunState::Running,
            None => RunState::Dead,
        };
        Status {
            name: role,
            instance,
            pid: running.and_then(|entry| Some(entry.process?.pid)).filter(|_| !external),
            address: if external { self.external_address(role) } else { entry.and_then(Entry::address) },
            admin_url: entry.and_then(Entry::admin_url),
            state,
        }
    }

    /// Where an external server is, without what its URL may hold beside the address.
    fn external_address(&self, role: Role) -> Option<String> {
        let variable = match role {
            Role::Kafka => KAFKA_BROKERS,
            Role::Redis => REDIS_URL,
            _ => DATABASES[0].variable,
        };
        let url = self.state.urls.get(variable)?;
        let rest = url.split_once("://").map_or(url.as_str(), |(_, rest)| rest);
        let authority = rest.split(['/', '?']).next()?;
        Some(authority.rsplit('@').next()?.to_owned())
    }

    /// The port by which clients know Kafka.
    fn kafka_port(&self) -> Option<u16> {
        self.settings.kafka_front.or_else(|| self.state.entry(Role::Kafka, 1)?.port)
    }

    /// Notes where the servers are: ours, or those the caller's variables name.
    fn note_urls(&mut self) {
        let server_port = |role| self.state.entry(role, 1).and_then(|entry: &Entry| entry.port);
        let mut ours: Vec<(&str, Option<String>)> = vec![
            (KAFKA_BROKERS, self.kafka_port().map(|port| format!("127.0.0.1:{port}"))),
            (REDIS_URL, server_port(Role::Redis).map(|port| format!("redis://127.0.0.1:{port}"))),
        ];
        let postgres = server_port(Role::Postgres);
        ours.extend(
            DATABASES
                .map(|database| (database.variable, postgres.map(|port| postgres::url(port, database.name)))),
        );
        for (variable, url) in ours {
            if self.state.external.contains(variable) {
                continue;
            }
            if let Some(url) = url {
                self.state.urls.insert(variable.into(), url);
            }
        }
    }

    /// Takes note of servers that others run for us: those the caller's variables name, unless they name our own, as they do
    /// after `eval "$(./dev env)"`.
    fn note_external(&mut self) {
        if self.settings.hermetic {
            return;
        }
        let variables =
            [KAFKA_BROKERS, REDIS_URL].into_iter().chain(DATABASES.map(|database| database.variable));
        for variable in variables {
            match env::var(variable).ok().filter(|value| !value.is_empty()) {
                Some(value) if self.state.urls.get(variable) != Some(&value) => {
                    self.state.external.insert(variable.into());
                    self.state.urls.insert(variable.into(), value);
                }
                _ => {}
            }
        }
    }

    /// The signal that asks a process of `role` to end in order, and the time it is given.
    fn farewell(role: Role) -> (Signal, Duration) {
        match role {
            // Its TERM waits for every client to leave of its own accord; INT rolls back what is open and ends.
            Role::Postgres => (Signal::INT, Duration::from_secs(20)),
            Role::Kafka => (Signal::TERM, Duration::from_secs(20)),
            Role::Redis => (Signal::TERM, Duration::from_secs(5)),
            _ => (Signal::TERM, DRAIN),
        }
    }
}
