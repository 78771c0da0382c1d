//! What a process has used, as the kernel counts it.

use std::time::Duration;

use anyhow::{Context, Result};
use procfs::process::Process;
use serde::{Deserialize, Serialize};

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
    let process = Process::myself()?;
    let stat = process.stat()?;
    let ticks = stat.utime + stat.stime;
    let peak_kib = process.status()?.vmhwm.context("the kernel does not say how large this process was")?;
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    let float = |number: u64| number as f64;
    Ok(Measured {
        per_s: float(u64::try_from(taken.records)?) / taken.time.as_secs_f64(),
        cpu_s: float(ticks) / float(procfs::ticks_per_second()),
        peak_mib: float(peak_kib) / 1024.0,
        swept_per_s: f64::from(taken.swept) / taken.time.as_secs_f64(),
    })
}
