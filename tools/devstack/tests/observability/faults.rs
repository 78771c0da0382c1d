//! What is done to the stack so that there is something to be seen: orders of every kind, records nobody can read, and processes that die
//! and are missed. It ends when Prometheus has seen it, and every process serves again.

use std::time::Duration;

use anyhow::Result;
use devstack::{
    clients::topics::publish,
    stack::Up,
    testing::{SOON, Trial},
    topology::{KAFKA_BROKERS, Role},
};
use futures_util::future::try_join_all;
use uuid::Uuid;

use crate::server::Prometheus;

/// Retries that are over soon, and members that are missed soon.
pub(crate) const SETTINGS: &[(Role, &str, &str)] = &[
    (Role::Payments, "RETRY_INITIAL_MS", "50"),
    (Role::Payments, "RETRY_MAX_MS", "400"),
    (Role::Payments, "RETRY_DEADLINE_S", "3"),
    (Role::Payments, "PROVIDER_TIMEOUT_MS", "400"),
    (Role::Payments, "SESSION_TIMEOUT_MS", "6000"),
    (Role::Orders, "SESSION_TIMEOUT_MS", "6000"),
    (Role::Delivery, "SESSION_TIMEOUT_MS", "6000"),
];

const TOKENS: [&str; 10] = [
    "tok_ok",
    "tok_declined",
    "tok_flaky_2",
    "tok_no_courier",
    "tok_ok",
    "tok_poison",
    "tok_crash_once",
    "tok_down",
    "tok_refund_flaky_2",
    "tok_ok",
];
const CUSTOMERS: usize = 6;

/// What the faults look like.
const FAULTS: [&str; 5] = [
    "up == 0",
    r#"backburner_check_failing{check="redis"} > 0"#,
    "backburner_degraded",
    r#"backburner_http_requests_total{status=~"5.."}"#,
    "backburner_partition_state == 5",
];

/// Does all of it, while orders keep coming.
pub(crate) async fn under_load(trial: &mut Trial, prometheus: &Prometheus) -> Result<()> {
    // Nobody can read these: dead letters of each group.
    for topic in ["orders", "payments", "deliveries"] {
        trial.publish(topic, &format!("observed-{}", Uuid::new_v4()), Some(b"no json")).await?;
    }
    let gateway = trial.gateway.clone();
    let customers = (0..CUSTOMERS).map(|customer| {
        let gateway = gateway.clone();
        async move {
            for number in 0.. {
                let token = TOKENS[(customer + number) % TOKENS.len()];
                gateway.place_eventually(token, 1_000, SOON).await?;
                // A load, not a wait for anything.
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            anyhow::Ok(())
        }
    });
    let kafka = trial.stack.url(KAFKA_BROKERS)?.to_owned();
    let stack = &mut trial.stack;
    let faults = async {
        prometheus.until_seen("sum(rate(backburner_orders_terminal_total[10s])) > 0").await?;
        // All of it at once: each process that comes back waits until it is missed.
        for role in [Role::Payments, Role::Orders, Role::Postgres] {
            stack.kill(role, 1).await?;
        }
        stack.stop(Role::Redis, 1).await?;
        // Whoever is left has something to do that needs PostgreSQL.
        publish(&kafka, "payments", "observed", Some(b"no json")).await?;
        for fault in FAULTS {
            prometheus.until_seen(fault).await?;
        }
        stack.up(&Up::default()).await?;
        prometheus.until_seen(r#"ALERTS{alertstate="firing"}"#).await
    };
    tokio::select! {
        placed = try_join_all(customers) => drop(placed?),
        done = faults => done?,
    }
    Ok(())
}
