//! Faults that are drawn: all holds, whatever they are.

use std::time::SystemTime;

use anyhow::{Context, Result, ensure};

use crate::run::{Lab, report};

/// In a plain run: Kafka stands still, and a service is killed.
const PLAIN: u64 = 107;
const MANY: u64 = 20;

async fn holds(seed: u64, seconds: &str) -> Result<()> {
    let seed = seed.to_string();
    let lab = Lab::start(&["--seed", &seed, "--for", seconds, "--rate", "15/s", "--settle", "90s"])?;
    let (code, printed, said) = lab.ends().await?;
    ensure!(code == 0, "LAB_SEED={seed}: it ended with {code}: {printed}\n{said}");
    let report = report(&printed)?;
    ensure!(report["verdict"] == "PASS" && report["failed"] == serde_json::json!([]), "{printed}");
    // It was felt, and it was load.
    let faults = report["faults"].as_array().context("faults")?;
    ensure!(!faults.is_empty() && faults.iter().all(|fault| fault["began_s"].is_number()), "{printed}");
    ensure!(faults.iter().all(|fault| fault["recovered_s"].is_number()), "{printed}");
    ensure!(report["accepted"].as_u64() > Some(50) && report["ended"] == report["accepted"], "{printed}");
    println!("seed {seed}: {} faults, {} orders ended", faults.len(), report["ended"]);
    Ok(())
}

#[tokio::test]
async fn whatever_is_drawn_all_of_it_holds() -> Result<()> {
    if std::env::var_os("ALL_FAULTS").is_none() {
        return holds(PLAIN, "15s").await;
    }
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_secs();
    let first = std::env::var("LAB_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(now);
    println!("beginning with LAB_SEED={first}");
    let mut failed = Vec::new();
    for seed in (first..).take(usize::try_from(MANY)?) {
        if let Err(error) = holds(seed, "25s").await {
            failed.push(format!("{error:#}"));
        }
    }
    ensure!(failed.is_empty(), "{} of {MANY} seeds failed:\n{}", failed.len(), failed.join("\n"));
    Ok(())
}
