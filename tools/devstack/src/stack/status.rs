//! Every process of a stack, and whether it runs.

use serde::Serialize;

use super::{Stack, state::ProcessEntry};
use crate::topology::{DATABASES, KAFKA_BROKERS, REDIS_URL, Role};

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
    /// It was started, and has ended by itself.
    Dead,
    /// It was never started, or was stopped.
    Stopped,
    /// Others run it.
    External,
}

impl Stack {
    /// Every process of the stack and whether it runs.
    pub fn status(&self) -> Vec<Status> {
        let mut all: Vec<(Role, u32)> = Role::ALL.map(|role| (role, 1)).to_vec();
        all.extend(self.state.entries.iter().map(|entry| (entry.role, entry.instance)));
        all.extend(self.state.wanted());
        all.sort_by_key(|(role, instance)| (Role::ALL.iter().position(|one| one == role), *instance));
        all.dedup();
        all.retain(|(role, instance)| {
            *instance == 1
                || self.state.entry(*role, *instance).is_some_and(ProcessEntry::is_running)
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
            None if entry.is_some_and(|entry| entry.process.is_some()) => RunState::Dead,
            None => RunState::Stopped,
        };
        Status {
            name: role,
            instance,
            pid: running.and_then(|entry| Some(entry.process?.pid)).filter(|_| !external),
            address: if external {
                self.external_address(role)
            } else {
                entry.and_then(ProcessEntry::address)
            },
            admin_url: entry.and_then(ProcessEntry::admin_url),
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
}
