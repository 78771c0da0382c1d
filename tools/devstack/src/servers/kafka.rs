//! Apache Kafka, one node, KRaft.

mod second;

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use rdkafka::{
    ClientConfig,
    consumer::{BaseConsumer, Consumer},
};
use uuid::Uuid;

use super::{Home, certificate::Files, run, until_ready};
use crate::os::{
    launch::{Launch, Lifetime, start},
    paths,
    process::ProcessId,
};

pub use self::second::{ID as SECOND, Second};

const TEMPLATE: &str = include_str!("../../kafka/server.properties.in");
/// Who logs in over TLS. Nobody else reaches the broker: it listens on the loopback address alone.
const USER: &str = "backburner";
const PASSWORD: &str = "back,burner";
/// Starting, with the recovery of an unclean log.
const READY: Duration = Duration::from_secs(90);

/// The ports the broker listens on.
#[derive(Clone, Copy, Debug)]
pub struct Ports {
    /// For clients without credentials.
    pub plain: u16,
    /// The one that they are told.
    pub advertised: u16,
    /// For clients that log in over TLS.
    pub sasl: u16,
    /// For itself.
    pub controller: u16,
}

/// Properties of a client that logs in over TLS, in a file as kcat takes it; it is there once the broker was started.
pub fn client_file(home: &Home) -> PathBuf {
    home.directory.join("client.properties")
}

/// Starts the broker, formatting its directory the first time: the cluster id is kept from then on.
pub async fn launch(home: &Home, ports: Ports, lifetime: Lifetime) -> Result<ProcessId> {
    fs::create_dir_all(&home.directory)
        .with_context(|| format!("{} cannot be made", home.directory.display()))?;
    let tls = Files::at(&home.directory);
    tls.make("kafka")?;
    let text = TEMPLATE
        .replace("@PORT@", &ports.plain.to_string())
        .replace("@ADVERTISED_PORT@", &ports.advertised.to_string())
        .replace("@SASL_PORT@", &ports.sasl.to_string())
        .replace("@CONTROLLER_PORT@", &ports.controller.to_string())
        .replace("@USER@", USER)
        .replace("@PASSWORD@", PASSWORD)
        .replace("@KEYSTORE@", &tls.both.display().to_string())
        .replace("@DATA@", &home.data().display().to_string());
    write(Path::new(&properties(home)), &text)?;
    let authority = tls.certificate.display();
    let text = format!(
        "# A client that logs in over TLS.\nsecurity.protocol=SASL_SSL\nsasl.mechanisms=PLAIN\nsasl.username={USER}\n\
         sasl.password={PASSWORD}\nssl.ca.location={authority}\n"
    );
    write(&client_file(home), &text)?;
    home.prepared(|_| async {
        // One that begins with a dash would be taken for an option: with the first bit clear none does. Kafka's ids are 16 bytes in
        // URL-safe base64, as its own tool writes them; any UUID will do.
        let id = cluster_id(Uuid::from_u128(Uuid::new_v4().as_u128() >> 1));
        run(&storage_tool(home, &id)?).await.context("Kafka's directory cannot be formatted")
    })
    .await?;
    start(&broker_launch(home)?, lifetime)
}

/// The command that runs one of Kafka's programs.
fn program(home: &Home, main: &str, options: &[&str]) -> Result<Vec<String>> {
    let class_path = format!("{}/*", paths::kafka_libs(&home.root)?.display());
    let java = paths::program("java")?.display().to_string();
    let words = [java.as_str(), "-cp", &class_path, "-XX:+UseSerialGC"].into_iter();
    Ok(words.chain(options.iter().copied()).chain([main]).map(String::from).collect())
}

fn properties(home: &Home) -> String {
    home.directory.join("server.properties").display().to_string()
}

/// The command that prepares a broker's directory as one of `cluster`.
fn storage_tool(home: &Home, cluster: &str) -> Result<Vec<String>> {
    let mut words = program(home, "kafka.tools.StorageTool", &["-XX:TieredStopAtLevel=1"])?;
    words.extend(["format", "-t", cluster, "-c", &properties(home)].map(String::from));
    Ok(words)
}

fn broker_launch(home: &Home) -> Result<Launch> {
    let log4j = home.root.join("tools/devstack/kafka/log4j2.properties");
    let logging = format!("-Dlog4j2.configurationFile={}", log4j.display());
    let mut command = program(home, "kafka.Kafka", &["-Xms256m", "-Xmx512m", &logging])?;
    command.push(properties(home));
    Ok(Launch {
        command,
        variables: Vec::new(),
        hermetic: true,
        directory: home.directory.clone(),
        log: home.log.clone(),
        death: "KILL",
        user: None,
    })
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("{} cannot be written", path.display()))
}

/// Waits until the broker answers for its metadata.
pub async fn ready(home: &Home, brokers: &str, process: Option<ProcessId>) -> Result<()> {
    let brokers = brokers.to_owned();
    until_ready("kafka", process, &home.log, READY, || {
        let brokers = brokers.clone();
        async move {
            let asked = tokio::task::spawn_blocking(move || -> Result<()> {
                let consumer: BaseConsumer = client(&brokers).create()?;
                consumer.fetch_metadata(None, Duration::from_secs(2))?;
                Ok(())
            });
            asked.await?
        }
    })
    .await
}

/// The settings of a client that only asks.
pub fn client(brokers: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", brokers).set("client.id", "devstack").set("socket.timeout.ms", "10000");
    config
}

/// A cluster id: 16 bytes in URL-safe base64 without padding.
fn cluster_id(id: Uuid) -> String {
    URL_SAFE_NO_PAD.encode(id.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_id_is_the_base64_of_its_bytes() {
        assert_eq!(cluster_id(Uuid::nil()), "AAAAAAAAAAAAAAAAAAAAAA");
        assert_eq!(cluster_id(Uuid::max()), "_____________________w");
        assert_eq!(
            cluster_id(Uuid::from_u128(0x0001_0203_0405_0607_0809_0a0b_0c0d_0e0f)),
            "AAECAwQFBgcICQoLDA0ODw"
        );
    }
}
