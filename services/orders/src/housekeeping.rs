//! What keeps the tables small, beside what the runtime does for its own.

use std::{convert::Infallible, time::Duration};

use actors::connection::{Connection, Limits, Trouble};
use chrono::Utc;
use deadpool_postgres::Pool;
use tokio::time::sleep;

use crate::store::keys;

/// Old keys are looked for this often.
const PAUSE: Duration = Duration::from_secs(60);

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
