//! What is done beside the orders, now and then: old keys are forgotten, and what waits for too long is shown.

use std::{convert::Infallible, time::Duration};

use ::metrics::gauge;
use actors::connection::{Connection, Limits, Trouble};
use chrono::Utc;
use deadpool_postgres::Pool;
use tokio::time::sleep;

use crate::{
    metrics,
    store::{self, Noted, keys},
};

/// Old keys are looked for this often.
const PAUSE: Duration = Duration::from_secs(60);

/// Orders that wait are counted this often.
const LOOK: Duration = Duration::from_secs(10);

/// Shows how many orders wait for a dead letter, since when the oldest has not ended, and for how long money is owed. Never ends by itself.
pub async fn watch_orders(pool: Pool) -> Infallible {
    loop {
        let looked = async {
            let connection = Connection::get(&pool).await?;
            connection.read(&Limits::default(), store::standing(&*connection)).await
        };
        match looked.await {
            Ok(standing) => {
                metrics::show(standing);
                gauge!(metrics::COUNTED).set(Utc::now().timestamp() as f64);
            }
            Err(trouble) => {
                let trouble: Trouble = trouble;
                tracing::warn!(error = %trouble.cause(), "orders that wait cannot be counted; trying again");
            }
        }
        sleep(LOOK).await;
    }
}

/// Forgets keys of requests that are not known any more. Never ends by itself; what does not work now is done later.
pub async fn forget_keys(pool: Pool) -> Infallible {
    loop {
        match forget_some(&pool).await {
            Ok(true) => {}
            Ok(false) => sleep(PAUSE).await,
            Err(trouble) => {
                // Keys that stay for longer cost space and nothing else.
                tracing::warn!(error = %trouble.cause(), "old idempotency keys could not be deleted; trying again in a minute");
                sleep(PAUSE).await;
            }
        }
    }
}

async fn forget_some(pool: &Pool) -> Result<bool, Trouble> {
    let connection = Connection::get(pool).await?;
    connection.write(&Limits::default(), keys::forget(&*connection, Utc::now())).await
}

/// Notes who has placed the orders that were there before those were noted as they are placed. Ends when all are; what does not work now is
/// done later.
pub async fn note_orders(pool: Pool) {
    loop {
        match note_some(&pool).await {
            Ok(Noted::All) => return,
            Ok(Noted::Some) => {}
            Ok(Noted::ByAnother) => sleep(PAUSE).await,
            Err(trouble) => {
                tracing::warn!(error = %trouble.cause(), "older orders could not be noted, and are not found by customer; trying again in a minute");
                sleep(PAUSE).await;
            }
        }
    }
}

async fn note_some(pool: &Pool) -> Result<Noted, Trouble> {
    let connection = Connection::get(pool).await?;
    connection.write(&Limits::default(), store::note_some(&*connection)).await
}
