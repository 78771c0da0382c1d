//! What strangers send, and what every path of the saga ends in, over real HTTP and Kafka.

mod audit;
mod damage;
mod doors;
mod drain;
mod http;
mod metrics;
mod records;
mod requeue;
mod saga;
mod streams;
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
