//! `inspector`.

use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use devstack::os::paths;

use super::open::open_running;

pub(crate) async fn inspector(arguments: Vec<String>) -> Result<ExitCode> {
    let stack = open_running()?;
    let program = paths::binaries()?.join("dlq-inspector");
    let mut command = tokio::process::Command::new(&program);
    command.args(arguments).envs(stack.environment());
    let status = command.status().await.with_context(|| format!("{} cannot be run", program.display()))?;
    match status.code().map(u8::try_from) {
        Some(Ok(code)) => Ok(ExitCode::from(code)),
        _ => bail!("dlq-inspector was ended: {status}"),
    }
}
