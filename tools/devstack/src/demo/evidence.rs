//! What a service's log says, as it says it.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};
use serde_json::Value;

use crate::os::logs::{Tail, readable};

/// A service's log, read from its beginning.
#[derive(Debug)]
pub(super) struct Evidence {
    tail: Tail,
    lines: Vec<Value>,
}

impl Evidence {
    pub(super) fn new(log: PathBuf) -> Self {
        Self { tail: Tail::new(String::new(), log, false), lines: Vec::new() }
    }

    /// Waits until `count` lines fit, and shows them.
    pub(super) async fn show(
        &mut self,
        what: &str,
        count: usize,
        limit: Duration,
        fits: impl Fn(&Value) -> bool,
    ) -> Result<Vec<Value>> {
        let start = Instant::now();
        loop {
            let new = self.tail.lines()?;
            self.lines.extend(new.iter().filter_map(|line| serde_json::from_str(line).ok()));
            let found: Vec<Value> = self.lines.iter().filter(|line| fits(line)).cloned().collect();
            if found.len() >= count {
                for line in &found {
                    println!("   payments log | {}", shortened(&readable(&line.to_string())));
                }
                return Ok(found);
            }
            if start.elapsed() > limit {
                bail!("the payments log has {} lines of {what}, not {count}, after {limit:?}", found.len());
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
    }
}

fn shortened(line: &str) -> String {
    const MOST: usize = 220;
    match line.char_indices().nth(MOST) {
        Some((at, _)) => format!("{}…", &line[..at]),
        None => line.to_owned(),
    }
}
