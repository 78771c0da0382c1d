//! A lab in a process of its own, what it says, and how it ends.

use std::{
    fs,
    path::PathBuf,
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use devstack::{
    os::{paths, process::ProcessId},
    stack::state::State,
};
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader, Lines},
    process::{Child, ChildStderr, Command},
};

/// More than any of these takes.
const LIMIT: Duration = Duration::from_secs(240);

/// A lab that runs.
pub(crate) struct Lab {
    child: Child,
    process: ProcessId,
    said: Vec<String>,
    lines: Lines<BufReader<ChildStderr>>,
}

impl Lab {
    pub(crate) fn start(words: &[&str]) -> Result<Self> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_devstack"));
        command.args(["lab", "-o", "json"]).args(words).current_dir(paths::project_root()?);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn()?;
        let process = child.id().and_then(ProcessId::of).context("it has ended already")?;
        let lines = BufReader::new(child.stderr.take().context("it has a standard error")?).lines();
        Ok(Self { child, process, said: Vec::new(), lines })
    }

    /// Waits until it says a line with `text`.
    pub(crate) async fn says(&mut self, text: &str) -> Result<()> {
        let said = async {
            while let Some(line) = self.lines.next_line().await? {
                let is_it = line.contains(text);
                self.said.push(line);
                if is_it {
                    return Ok(());
                }
            }
            bail!("it ended, and never said `{text}`:\n{}", self.said.join("\n"))
        };
        tokio::time::timeout(LIMIT, said).await.with_context(|| format!("`{text}` is not said"))?
    }

    /// The number behind `word` in the last line that has it.
    pub(crate) fn number(&self, word: &str) -> Option<u64> {
        let line = self.said.iter().rev().find(|line| line.contains(word))?;
        line.split_whitespace().skip_while(|other| *other != word).nth(1)?.parse().ok()
    }

    /// Where its stack keeps itself.
    fn dir(&self) -> Result<PathBuf> {
        let private = paths::project_root()?.join(".devstack/private");
        Ok(private.join(format!("{}-{}-1", self.process.pid, self.process.started)))
    }

    /// Its stack as it stands.
    pub(crate) fn state(&self) -> Result<State> {
        State::load(&self.dir()?.join("stack.json"))
    }

    pub(crate) fn interrupt(&self) -> Result<()> {
        self.process.signal(rustix::process::Signal::INT)
    }

    /// Its exit code and what it printed, once it has ended. Nothing of its stack is left then.
    pub(crate) async fn ends(mut self) -> Result<(i32, String, String)> {
        let state = self.state();
        let ended = async {
            let mut printed = String::new();
            let mut out = self.child.stdout.take().context("it has a standard output")?;
            let lines = async {
                while let Some(line) = self.lines.next_line().await? {
                    self.said.push(line);
                }
                anyhow::Ok(())
            };
            let (_, ()) = tokio::try_join!(async { Ok(out.read_to_string(&mut printed).await?) }, lines)?;
            anyhow::Ok((self.child.wait().await?, printed))
        };
        let (status, printed) = tokio::time::timeout(LIMIT, ended).await.context("it does not end")??;
        let said = self.said.join("\n");
        if let Ok(state) = state {
            let start = Instant::now();
            while let Some(left) = state.entries.iter().find(|entry| entry.is_running()) {
                ensure!(start.elapsed() < Duration::from_secs(5), "{} is left\n{said}", left.label());
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
        let dir = paths::project_root()?.join(".devstack/private");
        let mine = format!("{}-{}-", self.process.pid, self.process.started);
        for entry in fs::read_dir(dir)? {
            let name = entry?.file_name();
            ensure!(!name.to_string_lossy().starts_with(&mine), "{} is left", name.display());
        }
        Ok((status.code().context("it was killed")?, printed, said))
    }
}

/// What a lab has found.
pub(crate) fn report(printed: &str) -> Result<Value> {
    serde_json::from_str(printed).with_context(|| format!("not one object of JSON: {printed}"))
}
