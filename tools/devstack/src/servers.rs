//! The servers: how each is prepared, started and known to be ready.

mod certificate;
pub mod kafka;
pub mod postgres;
pub mod redis;

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use dead_letters::one_line;
use tokio::process::Command;

use crate::os::{logs::last_lines, process::ProcessId};

/// Where a server lives.
#[derive(Clone, Debug)]
pub struct Home {
    /// The project.
    pub root: PathBuf,
    /// The server's own directory: its data and its configuration.
    pub directory: PathBuf,
    /// The file its output goes to.
    pub log: PathBuf,
}

impl Home {
    /// The data directory, once prepared.
    pub fn data(&self) -> PathBuf {
        self.directory.join("data")
    }

    /// Prepares the data directory with `prepare` unless that was done before. A preparation that did not finish is begun
    /// anew; one that did is never touched.
    async fn prepared<F: Future<Output = Result<()>>>(
        &self,
        prepare: impl FnOnce(PathBuf) -> F,
    ) -> Result<()> {
        fs::create_dir_all(&self.directory)
            .with_context(|| format!("{} cannot be made", self.directory.display()))?;
        let done = self.directory.join(".prepared");
        if done.is_file() {
            return Ok(());
        }
        let data = self.data();
        if data.exists() {
            fs::remove_dir_all(&data).with_context(|| format!("{} cannot be removed", data.display()))?;
        }
        prepare(data).await?;
        fs::write(&done, "").with_context(|| format!("{} cannot be written", done.display()))
    }
}

/// Runs a short command to its end; its output is the error when it fails.
async fn run(words: &[String]) -> Result<()> {
    let (program, arguments) = words.split_first().context("an empty command")?;
    let output = Command::new(program)
        .args(arguments)
        .output()
        .await
        .with_context(|| format!("{program} cannot be run"))?;
    if !output.status.success() {
        let said = [output.stdout, output.stderr].concat();
        bail!("{} failed ({}):\n{}", words.join(" "), output.status, String::from_utf8_lossy(&said));
    }
    Ok(())
}

/// Asks `probe` until it succeeds. Ends early when the process dies; its last log lines are then the error.
pub(crate) async fn until_ready<F, T>(
    name: &str,
    process: Option<ProcessId>,
    log: &Path,
    limit: Duration,
    mut probe: impl FnMut() -> F,
) -> Result<T>
where
    F: Future<Output = Result<T>>,
{
    let start = Instant::now();
    loop {
        let error = match probe().await {
            Ok(answer) => return Ok(answer),
            Err(error) => error,
        };
        if process.is_some_and(|process| !process.is_alive()) {
            bail!("{name} ended before it was ready. Its last words:\n{}", last_lines(log, 20));
        }
        if start.elapsed() > limit {
            let (error, said) = (one_line(error.as_ref()), last_lines(log, 20));
            bail!("{name} is not ready after {limit:?} ({error}). Its last words:\n{said}");
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
