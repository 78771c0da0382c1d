//! What a stack remembers between commands: which processes it started, where, and the addresses of all.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File, OpenOptions},
    io::{ErrorKind, Write as _},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::{
    os::process::ProcessId,
    topology::{DATABASES, KAFKA_BROKERS, REDIS_URL, Role, label},
};

/// A process of the stack.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessEntry {
    /// What it is.
    pub role: Role,
    /// 1 for the first of its kind.
    pub instance: u32,
    /// The process as it was last started; none after it was stopped.
    pub process: Option<ProcessId>,
    /// Port it serves on: Kafka's, PostgreSQL's, Redis's protocol, or HTTP; a service without one has only its admin port.
    pub port: Option<u16>,
    /// A service's admin port; Kafka's controller port.
    pub second_port: Option<u16>,
    /// Kafka's port for clients that log in over TLS.
    #[serde(default)]
    pub sasl_port: Option<u16>,
}

impl ProcessEntry {
    /// Whether the process we started is running.
    pub fn is_running(&self) -> bool {
        self.process.is_some_and(ProcessId::is_alive)
    }

    /// How it is called in file names, log prefixes and messages.
    pub fn label(&self) -> String {
        label(self.role, self.instance)
    }

    /// `host:port` of what it serves.
    pub fn address(&self) -> Option<String> {
        self.port.or(self.second_port).map(|port| format!("127.0.0.1:{port}"))
    }

    /// Base URL of a service's admin port.
    pub fn admin_url(&self) -> Option<String> {
        self.role.service()?;
        self.second_port.map(|port| format!("http://127.0.0.1:{port}"))
    }
}

/// The whole stack as it was last seen.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// Every process, running or not: ports stay with their process.
    pub entries: Vec<ProcessEntry>,
    /// KAFKA_BROKERS, REDIS_URL and the database URLs.
    pub urls: BTreeMap<String, String>,
    /// Those of them that name servers which are not ours.
    pub external: BTreeSet<String>,
    /// How many of each service, where it is not one.
    pub scale: BTreeMap<Role, u32>,
}

impl State {
    /// Reads what was saved; nothing saved is an empty stack.
    pub fn load(path: &Path) -> Result<Self> {
        match fs::read(path) {
            Ok(bytes) => serde_json::from_slice(&bytes).with_context(|| {
                format!("{} is damaged; stop its processes by hand and remove it", path.display())
            }),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(error).with_context(|| format!("{} cannot be read", path.display())),
        }
    }

    /// Saves it so that a crash leaves the old or the new, never half of one. Only its owner may read it: a URL of an
    /// external server may carry a password.
    pub fn save(&self, path: &Path) -> Result<()> {
        let write = || -> Result<()> {
            let new = path.with_extension("new");
            let mut file =
                OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&new)?;
            file.write_all(&serde_json::to_vec_pretty(self)?)?;
            file.sync_all()?;
            Ok(fs::rename(&new, path)?)
        };
        write().with_context(|| format!("{} cannot be written", path.display()))
    }

    /// The entry of an instance.
    pub fn entry(&self, role: Role, instance: u32) -> Option<&ProcessEntry> {
        self.entries.iter().find(|entry| entry.role == role && entry.instance == instance)
    }

    /// The entry of an instance, made when it is new.
    pub fn entry_mut(&mut self, role: Role, instance: u32) -> &mut ProcessEntry {
        let at = self.entries.iter().position(|entry| entry.role == role && entry.instance == instance);
        let at = at.unwrap_or_else(|| {
            self.entries.push(ProcessEntry {
                role,
                instance,
                process: None,
                port: None,
                second_port: None,
                sasl_port: None,
            });
            self.entries.len() - 1
        });
        &mut self.entries[at]
    }

    /// Whether `role` is a server that others run for us.
    pub fn is_external(&self, role: Role) -> bool {
        match role {
            Role::Kafka => self.external.contains(KAFKA_BROKERS),
            Role::Redis => self.external.contains(REDIS_URL),
            Role::Postgres => DATABASES.iter().all(|database| self.external.contains(database.variable)),
            _ => false,
        }
    }

    /// The processes the stack should have.
    pub fn wanted(&self) -> Vec<(Role, u32)> {
        let roles = Role::ALL.into_iter().filter(|role| !self.is_external(*role));
        roles
            .flat_map(|role| {
                (1..=self.scale.get(&role).copied().unwrap_or(1)).map(move |instance| (role, instance))
            })
            .collect()
    }
}

/// Held by a command that changes the stack, so that two of them do not race. Freed when dropped or when the process ends.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl Lock {
    /// Waits for the lock; `waiting` is called once if another command has it.
    pub async fn take(path: &Path, waiting: impl FnOnce()) -> Result<Self> {
        let context = || format!("{} cannot be locked", path.display());
        let file =
            OpenOptions::new().create(true).truncate(false).write(true).open(path).with_context(context)?;
        match file.try_lock() {
            Ok(()) => return Ok(Self { _file: file }),
            Err(fs::TryLockError::WouldBlock) => waiting(),
            Err(fs::TryLockError::Error(error)) => return Err(error).with_context(context),
        }
        let taken = tokio::task::spawn_blocking(move || file.lock().map(|()| file)).await?;
        Ok(Self { _file: taken.with_context(context)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_saved_is_read_again_and_nothing_saved_is_empty() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("stack.json");
        assert_eq!(State::load(&path).expect("loads"), State::default());
        let mut state = State::default();
        state.entry_mut(Role::Payments, 2).port = Some(1);
        state.scale.insert(Role::Payments, 2);
        state.save(&path).expect("saves");
        assert_eq!(State::load(&path).expect("loads"), state);
        fs::write(&path, "{").expect("written");
        assert!(State::load(&path).expect_err("damaged").to_string().contains("damaged"));
    }

    #[test]
    fn servers_of_others_are_not_wanted_and_scaled_services_are_wanted_more_than_once() {
        let mut state = State::default();
        state.scale.insert(Role::Payments, 2);
        state.external.insert(KAFKA_BROKERS.into());
        state.external.insert("ORDERS_DATABASE_URL".into());
        let wanted = state.wanted();
        assert!(!wanted.contains(&(Role::Kafka, 1)));
        assert!(wanted.contains(&(Role::Postgres, 1)), "two databases still need a server of ours");
        assert!(wanted.contains(&(Role::Payments, 2)));
        assert!(!wanted.contains(&(Role::Orders, 2)));
    }

    #[tokio::test]
    async fn a_lock_is_held_by_one_at_a_time() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("lock");
        let first = Lock::take(&path, || panic!("nobody has it")).await.expect("taken");
        let (asked, asks) = tokio::sync::oneshot::channel();
        let second = tokio::spawn({
            let path = path.clone();
            async move { Lock::take(&path, || asked.send(()).expect("somebody listens")).await }
        });
        asks.await.expect("the second waits");
        assert!(!second.is_finished());
        drop(first);
        second.await.expect("no panic").expect("taken");
    }
}
