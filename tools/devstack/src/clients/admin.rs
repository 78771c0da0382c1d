//! Whoever probes a service by its admin port.

use std::time::Duration;

use anyhow::{Context, Result};
use reqwest::{Client, Response};
use serde::Deserialize;

/// What `/readyz` says.
#[derive(Clone, Debug, Deserialize)]
pub struct Readiness {
    /// `ready`, or what is in the way of it.
    pub status: String,
    /// What does not work as it should.
    pub degraded: Vec<Condition>,
}

/// An entry of `degraded`.
#[derive(Clone, Debug, Deserialize)]
pub struct Condition {
    /// What it is.
    pub code: String,
    /// What is wrong and what to do.
    pub message: String,
    /// The topic it is about, if it is about one.
    pub topic: Option<String>,
    /// And the partition.
    pub partition: Option<i32>,
}

/// What the service whose admin port is at `url` says of itself.
///
/// # Errors
/// When it does not answer within 5 s.
pub async fn readyz(url: &str) -> Result<Readiness> {
    ask(url, "/readyz").await?.json().await.context("/readyz is not what it should be")
}

/// What it measures, in Prometheus' text format.
///
/// # Errors
/// When it does not answer within 5 s, or has nothing to show.
pub async fn metrics(url: &str) -> Result<String> {
    ask(url, "/metrics").await?.error_for_status()?.text().await.context("/metrics is not what it should be")
}

async fn ask(url: &str, path: &str) -> Result<Response> {
    let http = Client::builder().no_proxy().timeout(Duration::from_secs(5)).build()?;
    let answer = http.get(format!("{url}{path}")).send().await;
    answer.with_context(|| format!("{path} does not answer"))
}
