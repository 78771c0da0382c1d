//! Orders that are called off: no money is held unasked, whatever was under way.

mod audit;
mod cancel;
mod race;

use devstack::topology::Role;

/// Retries that are over soon, a provider that is not waited for long, and members that are missed soon.
const SETTINGS: &[(Role, &str, &str)] = &[
    (Role::Payments, "RETRY_INITIAL_MS", "50"),
    (Role::Payments, "RETRY_MAX_MS", "200"),
    (Role::Payments, "RETRY_DEADLINE_S", "3"),
    (Role::Payments, "PROVIDER_TIMEOUT_MS", "400"),
    (Role::Payments, "SESSION_TIMEOUT_MS", "6000"),
    (Role::Orders, "SESSION_TIMEOUT_MS", "6000"),
    (Role::Delivery, "SESSION_TIMEOUT_MS", "6000"),
    (Role::Delivery, "RETRY_INITIAL_MS", "50"),
    (Role::Delivery, "RETRY_MAX_MS", "200"),
];
