//! What the delivery service is told, by flags or by the environment.

use std::net::SocketAddr;

use chassis::settings::CommonArgs;
use clap::Parser;

/// The delivery service: finds couriers for orders that are paid, and frees them.
#[derive(Clone, Debug, Parser)]
#[command(name = "delivery", version)]
pub struct Settings {
    /// What services have in common.
    #[command(flatten)]
    pub common: CommonArgs,
    /// The service's own database, postgres://user:password@host:port/name.
    #[arg(long, env, hide_env_values = true, help_heading = "PostgreSQL")]
    pub delivery_database_url: String,
    /// Where /livez, /readyz, /metrics, /partitions and /parked are served: to this machine alone, unless told otherwise.
    #[arg(long, env, default_value = "127.0.0.1:9103", help_heading = "HTTP")]
    pub admin_listen: SocketAddr,
    /// How long a courier is looked for while all are busy, seconds; then the delivery fails and the order is refunded.
    #[arg(long, env, default_value_t = 60)]
    pub courier_patience_s: u64,
}

#[cfg(test)]
mod tests;
