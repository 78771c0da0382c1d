//! A real Prometheus that scrapes a real stack by the project's own configuration.

use std::{
    fs,
    path::PathBuf,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result, bail, ensure};
use devstack::{
    os::{
        launch::{Launch, Lifetime, start},
        logs::last_lines,
        paths, ports,
        process::ProcessId,
    },
    testing::SOON,
};
use reqwest::Client;
use rustix::process::Signal;
use serde_json::Value;
use serde_yaml_ng::Value as Yaml;
use tempfile::TempDir;

use crate::files::{PROMETHEUS, RULES, yaml};

/// How often it scrapes and evaluates here: a test has no quarter of a minute.
const INTERVAL: &str = "1s";

/// Prometheus. Ends when it is dropped.
#[derive(Debug)]
pub(crate) struct Prometheus {
    process: ProcessId,
    url: String,
    log: PathBuf,
    http: Client,
    started: f64,
    /// Its configuration and its data.
    _directory: TempDir,
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        // One that has gone by itself needs no end; its data go with it.
        let _ = self.process.signal(Signal::KILL);
    }
}

fn now() -> Result<f64> {
    Ok(SystemTime::now().duration_since(UNIX_EPOCH).context("the clock is before 1970")?.as_secs_f64())
}

/// The project's configuration, with each target replaced by what `place` says it is here.
fn configuration(place: impl Fn(&str) -> Result<String>) -> Result<String> {
    let mut config = yaml(PROMETHEUS)?;
    let global = config["global"].as_mapping_mut().context("no global settings")?;
    for name in ["scrape_interval", "scrape_timeout", "evaluation_interval"] {
        global.insert(name.into(), INTERVAL.into());
    }
    let rules = paths::project_root()?.join(RULES);
    let named = config["rule_files"].as_sequence().context("no rules")?;
    ensure!(named.iter().any(|file| rules.ends_with(file.as_str().unwrap_or("/"))), "{RULES} is not loaded");
    config["rule_files"] = Yaml::Sequence(vec![rules.display().to_string().into()]);
    for job in config["scrape_configs"].as_sequence_mut().context("nothing to scrape")? {
        for group in job["static_configs"].as_sequence_mut().context("no targets")? {
            for target in group["targets"].as_sequence_mut().context("no targets")? {
                *target = place(target.as_str().context("a target is no text")?)?.into();
            }
        }
    }
    Ok(serde_yaml_ng::to_string(&config)?)
}

impl Prometheus {
    /// Starts it; nothing where it is not installed.
    pub(crate) async fn start(place: impl Fn(&str) -> Result<String>) -> Result<Option<Self>> {
        let Ok(program) = paths::program("prometheus") else { return Ok(None) };
        let directory = tempfile::tempdir()?;
        let config = directory.path().join("prometheus.yml");
        fs::write(&config, configuration(place)?)?;
        let (address, log) =
            (format!("127.0.0.1:{}", ports::free()?), directory.path().join("prometheus.log"));
        let launch = Launch {
            command: vec![
                program.display().to_string(),
                format!("--config.file={}", config.display()),
                format!("--storage.tsdb.path={}", directory.path().join("data").display()),
                format!("--web.listen-address={address}"),
                "--log.level=warn".to_owned(),
            ],
            variables: Vec::new(),
            hermetic: true,
            directory: directory.path().to_owned(),
            log: log.clone(),
            death: "KILL",
            user: None,
        };
        let http = Client::builder().no_proxy().timeout(Duration::from_secs(10)).build()?;
        let process = start(&launch, Lifetime::Attached)?;
        let url = format!("http://{address}");
        let prometheus = Self { process, url, log, http, started: now()?, _directory: directory };
        prometheus.until("it is ready", async || Ok(prometheus.ask("/-/ready", &[]).await.is_ok())).await?;
        Ok(Some(prometheus))
    }

    /// Waits until `holds` does.
    pub(crate) async fn until(&self, what: &str, holds: impl AsyncFn() -> Result<bool>) -> Result<()> {
        let begun = Instant::now();
        while !holds().await? {
            let said = || last_lines(&self.log, 5);
            ensure!(self.process.is_alive(), "Prometheus has ended: {}", said());
            ensure!(begun.elapsed() < SOON, "not after {SOON:?}: {what}; {}", said());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        println!("{what} after {:.1} s", begun.elapsed().as_secs_f64());
        Ok(())
    }

    /// Waits until an expression has had a value at some time since the start.
    pub(crate) async fn until_seen(&self, expression: &str) -> Result<()> {
        self.until(expression, async || self.has_had_values(expression).await).await
    }

    async fn ask(&self, path: &str, query: &[(&str, &str)]) -> Result<String> {
        let answer = self.http.get(format!("{}{path}", self.url)).query(query).send().await?;
        let status = answer.status();
        let text = answer.text().await?;
        ensure!(status.is_success(), "{path} is answered with {status}: {text}");
        Ok(text)
    }

    async fn data(&self, path: &str, query: &[(&str, &str)]) -> Result<Value> {
        let mut answer: Value = serde_json::from_str(&self.ask(path, query).await?)?;
        ensure!(answer["status"] == "success", "{path}: {answer}");
        Ok(answer["data"].take())
    }

    /// Whether an expression has had a value, and not NaN alone, at some second since the start: what a panel would show.
    pub(crate) async fn has_had_values(&self, expression: &str) -> Result<bool> {
        let (start, end) = (self.started.to_string(), now()?.to_string());
        let query = [("query", expression), ("start", &start), ("end", &end), ("step", "1")];
        let data = self.data("/api/v1/query_range", &query).await?;
        let series = data["result"].as_array().context("no result")?;
        let values = series.iter().flat_map(|series| series["values"].as_array().into_iter().flatten());
        Ok(values.filter_map(|value| value[1].as_str()?.parse::<f64>().ok()).any(f64::is_finite))
    }

    /// The targets that it cannot scrape now, and how many there are.
    pub(crate) async fn targets(&self) -> Result<(Vec<String>, usize)> {
        let data = self.data("/api/v1/targets", &[("state", "active")]).await?;
        let targets = data["activeTargets"].as_array().context("no targets")?;
        let down = targets.iter().filter(|target| target["health"] != "up");
        Ok((
            down.map(|target| format!("{}: {}", target["scrapeUrl"], target["lastError"])).collect(),
            targets.len(),
        ))
    }

    /// The names of the alerts it has evaluated; an error for one that it could not.
    pub(crate) async fn alerts(&self) -> Result<Vec<String>> {
        let data = self.data("/api/v1/rules", &[("type", "alert")]).await?;
        let groups = data["groups"].as_array().context("no rules")?.iter();
        let mut names = Vec::new();
        for rule in groups.flat_map(|group| group["rules"].as_array().into_iter().flatten()) {
            let name = rule["name"].as_str().context("no name")?;
            match rule["health"].as_str() {
                Some("ok") => names.push(name.to_owned()),
                // Not evaluated yet.
                Some("unknown") => {}
                _ => bail!("alert {name}: {}", rule["lastError"]),
            }
        }
        Ok(names)
    }
}
