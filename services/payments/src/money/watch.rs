//! Compares the ledger with the provider's list for as long as the process runs, and shows what it finds.

use std::{convert::Infallible, time::Duration};

use actors::Cause;
use chrono::Utc;
use deadpool_postgres::Pool;
use metrics::gauge;
use tokio::time::sleep;

use super::{Difference, differences};
use crate::{
    metrics::{MONEY_COMPARED, MONEY_DIFFERENCES},
    provider::PaymentProvider,
};

/// The ledger is compared this often.
const EVERY: Duration = Duration::from_secs(60);
/// Orders that are older were compared often enough.
const SINCE: chrono::Duration = chrono::Duration::hours(24);
/// The answer to a charge may be under way for as long.
const GRACE: Duration = Duration::from_secs(60);

/// Never ends by itself; what does not work now is done later.
pub async fn watch<P: PaymentProvider>(provider: P, pool: Pool) -> Infallible {
    loop {
        let now = Utc::now();
        let since = u64::try_from((now - SINCE).timestamp_millis()).unwrap_or(0);
        let since = uuid::Builder::from_unix_timestamp_millis(since, &[0; 10]).into_uuid();
        match differences(&provider, &pool, since, GRACE).await {
            Ok(found) => {
                for difference in Difference::ALL {
                    let orders = found.get(&difference).copied().unwrap_or(0);
                    gauge!(MONEY_DIFFERENCES, "difference" => difference.as_str()).set(orders as f64);
                }
                gauge!(MONEY_COMPARED).set(now.timestamp() as f64);
                if !found.is_empty() {
                    tracing::warn!(
                        ?found,
                        "the ledger and the provider's charges differ: see `audit --money`"
                    );
                }
            }
            // Said once: it will not change while this process runs.
            Err(Cause { code, message }) if code == "no-charge-list" => {
                tracing::warn!(%code, error = message, "the ledger is compared with nothing");
                std::future::pending::<()>().await;
            }
            Err(Cause { code, message }) => {
                tracing::warn!(%code, error = message, "the ledger could not be compared with the provider; trying again");
            }
        }
        sleep(EVERY).await;
    }
}
