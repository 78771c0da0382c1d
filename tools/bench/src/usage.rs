//! What a process has used, as the kernel counts it.

use std::time::Duration;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

/// Ticks of `/proc/self/stat` in a second: USER_HZ, which Linux has fixed at 100 for every program.
const TICKS: f64 = 100.0;

/// What one way took.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Taken {
    /// Records that were worked through.
    pub(crate) records: usize,
    /// From the first record to the last commit.
    pub(crate) time: Duration,
    /// Old rows that were swept meanwhile.
    pub(crate) swept: u32,
}

/// The same, with what its process used.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub(crate) struct Measured {
    /// Records a second.
    pub(crate) per_s: f64,
    /// Processor time of the process, seconds, its start included.
    pub(crate) cpu_s: f64,
    /// Its largest resident memory, MiB.
    pub(crate) peak_mib: f64,
    /// Old rows swept meanwhile, a second.
    pub(crate) swept_per_s: f64,
}

/// Reads what this process has used.
pub(crate) fn measured(taken: Taken) -> Result<Measured> {
    let stat = std::fs::read_to_string("/proc/self/stat").context("/proc/self/stat")?;
    // The name in brackets may hold anything; user and system time are the 14th and 15th field.
    let rest = stat.rsplit_once(") ").context("/proc/self/stat has another form")?.1;
    let fields: Vec<&str> = rest.split(' ').collect();
    let ticks = |at: usize| -> Result<f64> { Ok(fields.get(at).context("too few fields")?.parse()?) };
    let status = std::fs::read_to_string("/proc/self/status").context("/proc/self/status")?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM")?;
    let peak_kib: f64 = peak.trim().trim_end_matches(" kB").parse()?;
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    let records = taken.records as f64;
    Ok(Measured {
        per_s: records / taken.time.as_secs_f64(),
        cpu_s: (ticks(11)? + ticks(12)?) / TICKS,
        peak_mib: peak_kib / 1024.0,
        swept_per_s: f64::from(taken.swept) / taken.time.as_secs_f64(),
    })
}
