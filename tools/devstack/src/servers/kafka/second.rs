//! A second broker beside the first, for tests in which partitions have no leader.

use std::{fs, time::Duration};

use anyhow::{Context, Result, ensure};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rustix::process::Signal;

use super::{READY, broker_launch, client, storage_tool, write};
use crate::{
    os::{
        launch::{Lifetime, start},
        ports,
        process::ProcessId,
    },
    servers::{Home, run, until_ready},
};

/// What it is called in the cluster.
pub const ID: i32 = 2;

/// A broker that is no controller. It dies with this process.
#[derive(Debug)]
pub struct Second {
    home: Home,
    brokers: String,
    process: Option<ProcessId>,
}

impl Second {
    /// Joins the cluster of the broker at `first`, which serves at `brokers`.
    pub async fn join(first: &Home, brokers: &str) -> Result<Self> {
        let directory = first.directory.with_file_name("kafka-2");
        let log = first.log.with_file_name("kafka-2.log");
        let home = Home { root: first.root.clone(), directory, log };
        fs::create_dir_all(&home.directory)
            .with_context(|| format!("{} cannot be made", home.directory.display()))?;
        let properties = fs::read_to_string(first.directory.join("server.properties"))?;
        let port = ports::free()?;
        write(&home.directory.join("server.properties"), &beside(&properties, port, &home))?;
        let meta = fs::read_to_string(first.data().join("meta.properties"))?;
        let cluster = meta.lines().find_map(|line| line.strip_prefix("cluster.id="));
        let cluster = cluster.context("the first broker has no cluster id")?;
        run(&storage_tool(&home, cluster)?)
            .await
            .context("the second broker's directory cannot be formatted")?;
        let mut second = Self { home, brokers: brokers.to_owned(), process: None };
        second.start().await?;
        Ok(second)
    }

    /// Starts it where it was, and waits until the cluster knows it.
    pub async fn start(&mut self) -> Result<()> {
        let process = start(&broker_launch(&self.home)?, Lifetime::Attached)?;
        self.process = Some(process);
        until_ready("kafka-2", self.process, &self.home.log, READY, || {
            let brokers = self.brokers.clone();
            async move {
                let known = tokio::task::spawn_blocking(move || -> Result<usize> {
                    let consumer: BaseConsumer = client(&brokers).create()?;
                    Ok(consumer.fetch_metadata(None, Duration::from_secs(2))?.brokers().len())
                });
                let known = known.await??;
                ensure!(known == 2, "the cluster has {known} brokers");
                Ok(())
            }
        })
        .await
    }

    /// Kills it as `kill -9` does.
    pub async fn kill(&mut self) -> Result<()> {
        let process = self.process.take().context("it does not run")?;
        process.end(Signal::KILL, Duration::from_secs(5)).await.map(drop)
    }
}

/// The properties of a broker beside the one with `properties`.
fn beside(properties: &str, port: u16, home: &Home) -> String {
    let lines = properties.lines().filter_map(|line| {
        let name = line.split_once('=').map_or(line, |(name, _)| name);
        Some(match name {
            "process.roles" => "process.roles=broker".to_owned(),
            "node.id" => format!("node.id={ID}"),
            "listeners" | "advertised.listeners" => format!("{name}=PLAINTEXT://127.0.0.1:{port}"),
            "log.dirs" => format!("log.dirs={}", home.data().display()),
            _ if name.starts_with("listener.name.sasl_ssl") => return None,
            _ => line.to_owned(),
        })
    });
    lines.map(|line| line + "\n").collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_broker_is_no_controller_and_shares_neither_port_nor_directory() {
        let home = Home { root: "/r".into(), directory: "/d".into(), log: "/l".into() };
        let text = beside(super::super::TEMPLATE, 9_999, &home);
        for line in ["process.roles=broker", "node.id=2", "listeners=PLAINTEXT://127.0.0.1:9999"] {
            assert!(text.lines().any(|one| one == line), "{line} is not in {text}");
        }
        assert!(text.contains("log.dirs=/d/data\n") && !text.contains("sasl_ssl"), "{text}");
    }
}
