//! What changes a stack: up, down, and one process at a time.

use std::{collections::BTreeMap, fs, time::Duration};

use anyhow::{Context, Error, Result, bail, ensure};
use futures_util::{
    future::{join_all, try_join_all},
    stream::{FuturesUnordered, StreamExt},
};
use rustix::process::Signal;

use super::{
    GatewayPort, Stack,
    state::{ProcessEntry, State},
};
use crate::{
    os::process::{ProcessId, working_in},
    progress,
    topology::{Role, label},
};

/// Time a service is given to drain: what it promises, and some.
const DRAIN: Duration = Duration::from_secs(12);

/// What to bring up.
#[derive(Clone, Debug, Default)]
pub struct Up {
    /// How many of a service, where it is not what it was.
    pub scale: BTreeMap<Role, u32>,
    /// Throw the data away first.
    pub fresh: bool,
    /// The servers alone.
    pub servers_only: bool,
}

/// What `up` found to do, by the labels of processes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changed {
    /// Those that it started.
    pub started: Vec<String>,
    /// Those that it stopped: there are to be fewer of a service.
    pub stopped: Vec<String>,
}

/// What `down` found to do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Down {
    /// Processes that ended when asked.
    pub ended: Vec<String>,
    /// Processes that had to be killed.
    pub killed: Vec<String>,
}

impl Stack {
    /// Starts what is missing, stops what is too much and waits until everything serves. When something fails, nothing of what it
    /// started runs any more.
    pub async fn up(&mut self, up: &Up) -> Result<Changed> {
        if up.fresh {
            self.down().await?;
            for sub in ["data", "logs"] {
                let path = self.dir.join(sub);
                fs::remove_dir_all(&path).with_context(|| format!("{} cannot be removed", path.display()))?;
                fs::create_dir_all(&path).with_context(|| format!("{} cannot be made", path.display()))?;
            }
            self.state = State::default();
        }
        self.note_external();
        self.state.scale.extend(&up.scale);
        let wanted = self.state.wanted();
        self.check_gateway_port()?;
        let is_surplus =
            |entry: &&ProcessEntry| entry.instance > 1 && !wanted.contains(&(entry.role, entry.instance));
        let surplus: Vec<ProcessEntry> = self.state.entries.iter().filter(is_surplus).cloned().collect();
        let (servers, services): (Vec<_>, Vec<_>) =
            wanted.into_iter().partition(|(role, _)| role.service().is_none());
        let services = if up.servers_only { Vec::new() } else { services };
        // All ports are known to be free before anything is started on one of them.
        self.assign_ports(&[servers.as_slice(), services.as_slice()].concat())?;
        let mut stopped = Vec::new();
        for entry in surplus {
            if entry.is_running() {
                stopped.push(entry.label());
            }
            self.stop(entry.role, entry.instance).await?;
            self.state.entries.retain(|other| *other != entry);
        }
        let before = self.running();
        match self.start_in_turn(&[&servers, &services]).await {
            Ok(started) => Ok(Changed { started, stopped }),
            Err(error) => Err(self.undone(&before, error).await),
        }
    }

    async fn start_in_turn(&mut self, turns: &[&[(Role, u32)]]) -> Result<Vec<String>> {
        let mut started = Vec::new();
        for turn in turns {
            started.extend(self.start_all(turn).await?);
        }
        Ok(started)
    }

    /// The processes that run.
    fn running(&self) -> Vec<ProcessId> {
        self.state
            .entries
            .iter()
            .filter(|entry| entry.is_running())
            .filter_map(|entry| entry.process)
            .collect()
    }

    /// Ends what was started since `before`, after `error`.
    async fn undone(&mut self, before: &[ProcessId], error: Error) -> Error {
        let ended = async {
            self.end(|entry| entry.process.is_some_and(|process| !before.contains(&process))).await?;
            if self.running().is_empty() {
                self.clear_backends().await?;
                self.forget();
            }
            self.save()
        };
        match ended.await {
            Ok(()) => error,
            Err(left) => error.context(format!("what was started cannot be ended: {left:#}")),
        }
    }

    fn check_gateway_port(&self) -> Result<()> {
        let running = self
            .state
            .entry(Role::Gateway, 1)
            .filter(|entry| entry.is_running())
            .and_then(|entry| entry.port);
        match (self.settings.gateway_port, running) {
            (GatewayPort::Exactly(wanted), Some(port)) if wanted != port => {
                bail!("the gateway runs on port {port}: run `./dev down` first to move it to {wanted}")
            }
            _ => Ok(()),
        }
    }

    /// Starts those that do not run, side by side, and waits until all serve.
    async fn start_all(&mut self, wanted: &[(Role, u32)]) -> Result<Vec<String>> {
        let runs = |state: &State, (role, instance)| {
            state.entry(role, instance).is_some_and(ProcessEntry::is_running)
        };
        let missing: Vec<(Role, u32)> =
            wanted.iter().copied().filter(|one| !runs(&self.state, *one)).collect();
        self.assign_ports(&missing)?;
        self.note_urls();
        self.save()?;
        let snapshot = &self.clone();
        let entries = missing.iter().filter_map(|(role, instance)| snapshot.state.entry(*role, *instance));
        let mut launches: FuturesUnordered<_> =
            entries.map(|entry| async move { (entry, snapshot.launch(entry).await) }).collect();
        let names: Vec<String> = missing.iter().map(|(role, instance)| label(*role, *instance)).collect();
        let launching = async {
            let mut failed = Ok(());
            while let Some((entry, launched)) = launches.next().await {
                match launched {
                    // Noted at once: what is not noted cannot be stopped later.
                    Ok(process) => {
                        self.state.entry_mut(entry.role, entry.instance).process = Some(process);
                        self.save()?;
                    }
                    Err(error) => failed = Err(error),
                }
            }
            failed
        };
        progress::during(&format!("starting {}", names.join(", ")), launching).await?;
        let waits = wanted.iter().filter_map(|(role, instance)| self.state.entry(*role, *instance));
        let waits = try_join_all(waits.map(|entry| self.wait_ready(entry)));
        progress::during(&format!("waiting for {} to serve", names.join(", ")), waits).await?;
        Ok(names)
    }

    /// Ends everything that is ours.
    pub async fn down(&mut self) -> Result<Down> {
        let down = self.end(|_| true).await?;
        self.clear_backends().await?;
        if let Some(left) = self.state.entries.iter().find(|entry| entry.is_running()) {
            bail!("{} still runs", left.label());
        }
        self.forget();
        self.save()?;
        Ok(down)
    }

    /// Ends those of ours that `which` chooses: the edge first, then the services, then the servers under them.
    async fn end(&self, which: impl Fn(&ProcessEntry) -> bool) -> Result<Down> {
        let mut down = Down::default();
        let edge = |role| role == Role::Gateway;
        let service = |role: Role| role.service().is_some() && !edge(role);
        let server = |role: Role| role.service().is_none();
        let waves: [&dyn Fn(Role) -> bool; 3] = [&edge, &service, &server];
        for wave in waves {
            let ending: Vec<&ProcessEntry> = self
                .state
                .entries
                .iter()
                .filter(|entry| wave(entry.role) && entry.is_running() && which(entry))
                .collect();
            let names = ending.iter().map(|entry| entry.label()).collect::<Vec<_>>().join(", ");
            let ends = join_all(ending.iter().map(|entry| async move {
                let (signal, limit) = Self::farewell(entry.role);
                match entry.process {
                    Some(process) => process.end(signal, limit).await,
                    None => Ok(true),
                }
            }));
            for (entry, ended) in
                ending.iter().zip(progress::during(&format!("stopping {names}"), ends).await)
            {
                if ended.with_context(|| format!("{} cannot be stopped", entry.label()))? {
                    down.ended.push(entry.label());
                } else {
                    down.killed.push(entry.label());
                }
            }
        }
        Ok(down)
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

    /// Of a stopped stack only its ports are remembered, so that what people noted of it stays true.
    fn forget(&mut self) {
        self.state.entries.retain(|entry| entry.instance == 1);
        for entry in &mut self.state.entries {
            entry.process = None;
        }
        for variable in std::mem::take(&mut self.state.external) {
            self.state.urls.remove(&variable);
        }
        self.state.scale.clear();
    }

    /// Backends outlive a postmaster that was killed by a moment.
    async fn clear_backends(&self) -> Result<()> {
        for backend in working_in(&self.home(Role::Postgres).data()) {
            backend.end(Signal::QUIT, Duration::from_secs(5)).await?;
        }
        Ok(())
    }

    /// Asks an instance to end and waits for it. True if it ended by itself in the time it has.
    pub async fn stop(&mut self, role: Role, instance: u32) -> Result<bool> {
        let (signal, limit) = Self::farewell(role);
        match self.state.entry(role, instance).and_then(|entry| entry.process) {
            Some(process) => {
                process.end(signal, limit).await.with_context(|| format!("{role} cannot be stopped"))
            }
            None => Ok(true),
        }
    }

    /// Kills an instance as `kill -9` does.
    pub async fn kill(&mut self, role: Role, instance: u32) -> Result<()> {
        self.process(role, instance)?.end(Signal::KILL, Duration::from_secs(5)).await?;
        Ok(())
    }

    /// Starts an instance where it was and waits until it serves.
    pub async fn start(&mut self, role: Role, instance: u32) -> Result<()> {
        let before = self.running();
        match self.start_all(&[(role, instance)]).await {
            Ok(_) => Ok(()),
            Err(error) => Err(self.undone(&before, error).await),
        }
    }

    /// Starts an instance anew with other variables.
    pub async fn restart_with(
        &mut self,
        role: Role,
        instance: u32,
        variables: &[(&str, &str)],
    ) -> Result<()> {
        for (name, value) in variables {
            self.set_variable(role, name, value);
        }
        ensure!(self.stop(role, instance).await?, "{role} did not end in time when asked");
        self.start(role, instance).await
    }
}
