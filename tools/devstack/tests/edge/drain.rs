//! A service that is asked to end.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use devstack::{
    servers::postgres::connect,
    testing::{self, SOON},
    topology::Role,
};
use futures_util::future::try_join_all;

use crate::SETTINGS;

#[test]
fn a_service_asked_to_end_under_load_drains_within_ten_seconds() -> Result<()> {
    testing::run(SETTINGS, async |trial| {
        let placing = (0..100).map(|_| trial.gateway.place("tok_ok", 500));
        let ids = try_join_all(placing).await?;
        let start = Instant::now();
        ensure!(trial.stack.stop(Role::Payments, 1).await?, "it had to be killed");
        ensure!(start.elapsed() < Duration::from_secs(10), "it took {:?}", start.elapsed());
        let payments = connect(trial.stack.url("PAYMENTS_DATABASE_URL")?).await?;
        let unclean = "select count(*) from partition_lease where not clean";
        let unclean: i64 = payments.query_one(unclean, &[]).await?.get(0);
        ensure!(unclean == 0, "{unclean} partitions were left without a clean end");
        trial.stack.start(Role::Payments, 1).await?;
        for id in ids {
            trial.gateway.until(id, "COMPLETED", SOON).await?;
            ensure!(trial.ledger(id).await? == (1, 0), "order {id} was not charged once");
        }
        let totals = trial.totals("still", |totals| totals.is_still()).await?;
        ensure!(totals.unaccounted() == 0, "{totals}");
        Ok(())
    })
}
