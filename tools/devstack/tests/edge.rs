//! What strangers send, and what every path of the saga ends in, over real HTTP and Kafka.

#[path = "edge/audit.rs"]
mod audit;
#[path = "edge/damage.rs"]
mod damage;
#[path = "edge/doors.rs"]
mod doors;
#[path = "edge/drain.rs"]
mod drain;
#[path = "edge/http.rs"]
mod http;
#[path = "edge/records.rs"]
mod records;
#[path = "edge/requeue.rs"]
mod requeue;
#[path = "edge/saga.rs"]
mod saga;
#[path = "edge/texts.rs"]
mod texts;

use devstack::topology::Role;

/// Retries that are over soon.
const SETTINGS: &[(Role, &str, &str)] = &[
    (Role::Payments, "RETRY_INITIAL_MS", "50"),
    (Role::Payments, "RETRY_MAX_MS", "200"),
    (Role::Payments, "RETRY_DEADLINE_S", "3"),
    (Role::Payments, "SESSION_TIMEOUT_MS", "6000"),
    (Role::Delivery, "RETRY_INITIAL_MS", "50"),
    (Role::Delivery, "RETRY_MAX_MS", "200"),
];
