//! `dlq-inspector`, run as an operator would.

use std::{
    collections::BTreeMap,
    path::Path,
    process::Output,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use rustix::process::Signal;
use serde::Deserialize;
use serde_json::Value;

use crate::{
    clients::admin,
    os::{
        launch::{Launch, Lifetime, start},
        logs::last_lines,
        paths, ports,
        process::ProcessId,
    },
    stack::Stack,
};

/// Time the first count is given.
const COUNTED: Duration = Duration::from_secs(60);

/// A dead letter as `list -o json` prints it.
#[derive(Clone, Debug, Deserialize)]
pub struct DeadLetter {
    /// Its id.
    pub id: String,
    /// The group it died in.
    pub group: String,
    /// poison, permanent, exhausted, crash or foreign.
    pub class: String,
    /// The error's code.
    pub error_code: Option<String>,
    /// The error.
    pub error: String,
    /// Where it was first read from.
    pub topic: Option<String>,
    /// The partition there.
    pub partition: Option<i32>,
    /// The offset there.
    pub offset: Option<i64>,
    /// The record's key, where it is text.
    pub key: Option<String>,
    /// The event's type, where it could be decoded.
    pub event_type: Option<String>,
    /// open, requeued, resolved, dead-again or discarded.
    pub state: String,
}

/// An inspector that counts dead letters for Prometheus. Ends when it is dropped.
#[derive(Debug)]
pub struct Counter {
    process: ProcessId,
    /// Where it listens, `host:port`.
    pub address: String,
}

impl Counter {
    /// Its URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for Counter {
    fn drop(&mut self) {
        // One that has gone by itself needs no end.
        let _ = self.process.signal(Signal::TERM);
    }
}

/// The inspector of a stack.
#[derive(Clone, Debug)]
pub struct Inspector {
    program: std::path::PathBuf,
    variables: BTreeMap<String, String>,
}

impl Inspector {
    /// The inspector for `stack`.
    pub fn new(stack: &Stack) -> Result<Self> {
        Ok(Self { program: paths::binaries()?.join("dlq-inspector"), variables: stack.environment() })
    }

    /// Runs it; whatever its exit code.
    pub async fn run(&self, arguments: &[&str]) -> Result<Output> {
        let mut command = tokio::process::Command::new(&self.program);
        command.args(arguments).envs(&self.variables).env("NO_COLOR", "1").kill_on_drop(true);
        command.output().await.with_context(|| format!("{} cannot be run", self.program.display()))
    }

    /// Starts `dlq-inspector metrics`, which dies with this process. What it says goes to a file in `directory`. It has counted
    /// when this returns.
    ///
    /// # Errors
    /// When it ends instead, or does not come to it within a minute.
    pub async fn metrics(&self, directory: &Path) -> Result<Counter> {
        let address = format!("127.0.0.1:{}", ports::free()?);
        let log = directory.join("dead-letters.log");
        let launch = Launch {
            command: [&*self.program.display().to_string(), "metrics", "--listen", &address, "--every", "1s"]
                .map(str::to_owned)
                .to_vec(),
            variables: self.variables.clone().into_iter().collect(),
            hermetic: true,
            directory: directory.to_owned(),
            log: log.clone(),
            death: "KILL",
            user: None,
        };
        let counter = Counter { process: start(&launch, Lifetime::Attached)?, address };
        let begun = Instant::now();
        while let Err(error) = admin::metrics(&counter.url()).await {
            if !counter.process.is_alive() || begun.elapsed() > COUNTED {
                let said = last_lines(&log, 5);
                return Err(error.context(format!("dlq-inspector metrics has not counted: {said}")));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(counter)
    }

    /// Runs it with `-o json` and reads its lines. 3, nothing matched, is no error here.
    pub async fn json(&self, arguments: &[&str]) -> Result<Vec<Value>> {
        let words: Vec<&str> = ["-o", "json"].into_iter().chain(arguments.iter().copied()).collect();
        let output = self.run(&words).await?;
        if !matches!(output.status.code(), Some(0 | 3)) {
            let said = String::from_utf8_lossy(&output.stderr);
            bail!("dlq-inspector {} ended with {}: {}", words.join(" "), output.status, said.trim());
        }
        let lines = output.stdout.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        lines
            .map(|line| serde_json::from_slice(line).context("a line of the inspector is not JSON"))
            .collect()
    }

    /// The dead letters in any state, or those that further selectors choose.
    pub async fn list(&self, selectors: &[&str]) -> Result<Vec<DeadLetter>> {
        let all = (!selectors.contains(&"--state")).then_some("--all");
        let words = ["list", "--limit", "100000"].into_iter().chain(all);
        let words: Vec<&str> = words.chain(selectors.iter().copied()).collect();
        let lines = self.json(&words).await?;
        lines.into_iter().map(|line| Ok(serde_json::from_value(line)?)).collect()
    }
}
