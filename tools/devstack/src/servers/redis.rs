//! Redis, in memory alone: it holds hints, and losing them must change nothing.

use std::{fs, time::Duration};

use anyhow::{Context, Result};

use super::{Home, until_ready};
use crate::os::{
    launch::{Launch, Lifetime, start},
    paths,
    process::ProcessId,
};

/// Starts the server on `port`.
pub fn launch(home: &Home, port: u16, lifetime: Lifetime) -> Result<ProcessId> {
    fs::create_dir_all(&home.directory)
        .with_context(|| format!("{} cannot be made", home.directory.display()))?;
    let program = paths::program("redis-server")?.display().to_string();
    let port = port.to_string();
    let words = [
        &program,
        "--port",
        &port,
        "--bind",
        "127.0.0.1",
        "--save",
        "",
        "--appendonly",
        "no",
        "--maxmemory",
        "256mb",
    ]
    .into_iter()
    .chain(["--maxmemory-policy", "allkeys-lru"]);
    let launch = Launch {
        command: words.map(String::from).collect(),
        variables: Vec::new(),
        hermetic: true,
        directory: home.directory.clone(),
        log: home.log.clone(),
        death: "KILL",
        user: None,
    };
    start(&launch, lifetime)
}

/// Waits until the server answers.
pub async fn ready(home: &Home, url: &str, process: Option<ProcessId>) -> Result<()> {
    let client = redis::Client::open(url).with_context(|| "the URL of Redis is not one")?;
    until_ready("redis", process, &home.log, Duration::from_secs(20), || async {
        let mut connection = client.get_multiplexed_async_connection().await?;
        Ok(redis::cmd("PING").query_async::<()>(&mut connection).await?)
    })
    .await
}
