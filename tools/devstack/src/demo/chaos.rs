//! Step 8: a short lab, under load and with faults that are always the same.

use std::time::Duration;

use anyhow::{Error, Result, ensure};
use tokio::sync::watch;

use super::stage::{Demo, SOON, proved};
use crate::lab::{self, Settings, fault::parse_all, stage::Stage};

/// A member that was killed is missed after six seconds: that comes first.
const FAULTS: &str = "kill:payments@1s,redis-wipe@3s,freeze:postgres@5s+1500ms";

impl Demo {
    pub(super) async fn chaos(&mut self) -> Result<()> {
        self.heading(
            "Chaos: orders keep coming while payments is killed, PostgreSQL stands still, Redis is wiped",
        );
        let settings = Settings {
            rate: 15.0,
            duration: Duration::from_secs(8),
            seed: 1,
            faults: Some(parse_all(FAULTS).map_err(Error::msg)?),
            settle: SOON,
        };
        println!("   {FAULTS}");
        let stage = Stage::on(self.stack.clone())?;
        // Nobody ends it before its time.
        let (_stop, stopped) = watch::channel(false);
        let judged = lab::run(&stage, &settings, stopped, &|line| println!("   {line}")).await;
        // It restarted a service: what runs now is what has to be ended.
        self.stack = stage.into_stack();
        let report = judged?;
        report.to_string().lines().for_each(|line| println!("   {line}"));
        ensure!(report.held(), "the verdict is {}: {}", report.verdict, report.failed.join("; "));
        proved("no order lost, stuck or charged twice; other faults, or others each time: ./dev lab");
        Ok(())
    }
}
