//! Stacks for one run: in a directory of their own, gone with the process that made them.

use std::{
    fs,
    path::Path,
    sync::atomic::{AtomicU32, Ordering},
};

use anyhow::{Context, Result};

use super::{GatewayPort, Settings, Stack};
use crate::{
    os::{launch::Lifetime, paths, process::ProcessId},
    topology::Role,
};

impl Stack {
    /// A new stack, on free ports, whose processes die with this one. Services see `variables` and nothing of the caller's.
    pub fn private(gateway_port: GatewayPort, variables: &[(Role, &str, &str)]) -> Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let root = paths::project_root()?;
        let all = root.join(".devstack/private");
        fs::create_dir_all(&all).with_context(|| format!("{} cannot be made", all.display()))?;
        sweep(&all)?;
        let me = ProcessId::current().context("this process is not in /proc")?;
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let dir = all.join(format!("{}-{}-{number}", me.pid, me.started));
        let settings = Settings {
            lifetime: Lifetime::Attached,
            hermetic: true,
            gateway_port,
            kafka_front: None,
            variables: variables
                .iter()
                .map(|(role, name, value)| (*role, (*name).into(), (*value).into()))
                .collect(),
        };
        Self::at(root, dir, settings, true)
    }

    /// Removes the directory of a stack that was made to be thrown away, after ending it.
    pub async fn discard(mut self) -> Result<()> {
        self.down().await?;
        if self.temporary {
            remove(&self.dir)?;
        }
        Ok(())
    }
}

/// Removes what processes that were killed left behind.
fn sweep(all: &Path) -> Result<()> {
    for entry in fs::read_dir(all).with_context(|| format!("{} cannot be read", all.display()))? {
        let dir = entry?.path();
        let owner = dir.file_name().and_then(|name| owner(name.to_str()?));
        if owner.is_some_and(|owner| !owner.is_alive()) {
            // Another process may be sweeping too.
            match remove(&dir) {
                Err(error) if dir.exists() => return Err(error),
                _ => {}
            }
        }
    }
    Ok(())
}

fn remove(dir: &Path) -> Result<()> {
    fs::remove_dir_all(dir).with_context(|| format!("{} cannot be removed", dir.display()))
}

/// Whose directory is called `name`.
fn owner(name: &str) -> Option<ProcessId> {
    let mut parts = name.split('-').map(str::parse::<u64>);
    let pid = u32::try_from(parts.next()?.ok()?).ok()?;
    Some(ProcessId { pid, started: parts.next()?.ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_directories_of_dead_processes_are_swept() {
        let all = tempfile::tempdir().expect("a directory");
        let me = ProcessId::current().expect("in /proc");
        let mine = all.path().join(format!("{}-{}-1", me.pid, me.started));
        let dead = all.path().join(format!("{}-{}-1", me.pid, me.started + 1));
        let other = all.path().join("notes");
        for dir in [&mine, &dead, &other] {
            fs::create_dir(dir).expect("made");
        }
        sweep(all.path()).expect("sweeps");
        assert!(mine.exists() && other.exists());
        assert!(!dead.exists());
    }
}
