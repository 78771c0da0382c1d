//! Step 7: everything that went in came out once.

use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};

use super::stage::{Demo, SOON, proved};
use crate::{audit, reconcile::Totals};

impl Demo {
    pub(super) async fn reconcile(&mut self) -> Result<()> {
        self.heading("Reconciliation: everything that went in came out once");
        let start = Instant::now();
        let totals = loop {
            let totals = Totals::read(&self.stack).await?;
            if totals.wrong().is_empty() || start.elapsed() > SOON {
                break totals;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        };
        totals.to_string().lines().for_each(|line| println!("   {line}"));
        let wrong = totals.wrong();
        if !wrong.is_empty() {
            bail!("the totals do not agree: {}", wrong.join("; "));
        }
        // Every order that did not end has a dead letter that says why.
        let explained =
            totals.dead_letters.iter().filter(|letter| letter.event_type.as_deref() == Some("ORDER_CREATED"));
        let explained = i64::try_from(explained.count())?;
        if totals.unfinished() != explained {
            bail!("{} orders have not ended, and {explained} dead letters say why", totals.unfinished());
        }
        proved(&format!(
            "every offset is accounted for; the {explained} unfinished order has an open dead letter"
        ));
        // The counters could agree by accident.
        println!("   and without believing the counters, every topic read again (./dev audit):");
        let audit = audit::run(&self.stack, audit::retention()).await?;
        audit.to_string().lines().for_each(|line| println!("   {line}"));
        ensure!(audit.is_clean(), "the audit found what the counters did not: {audit}");
        proved(
            "every record has an outcome, and what was applied, parked, dead or put back is where it must be",
        );
        Ok(())
    }
}
