//! The settings of the delivery service.

use std::{net::SocketAddr, time::Duration};

use chassis::settings::CommonArgs;
use clap::Parser;

/// The delivery service: finds couriers for orders that are paid, and frees them.
#[derive(Clone, Debug, Parser)]
#[command(name = "delivery", version)]
pub struct Settings {
    /// The service's database, postgres://user:password@host:port/name.
    #[arg(long, env, hide_env_values = true, help_heading = "PostgreSQL")]
    pub delivery_database_url: String,
    /// Where health, metrics and partitions are shown: to this machine alone by default.
    #[arg(long, env, default_value = "127.0.0.1:9103", help_heading = "HTTP")]
    pub admin_listen: SocketAddr,
    /// How long a courier is looked for while all are busy, seconds; then the delivery fails and the order is refunded.
    #[arg(long, env, default_value_t = 60, help_heading = "Delivery")]
    pub courier_patience_s: u64,
    /// What services have in common.
    #[command(flatten)]
    pub common: CommonArgs,
}

impl Settings {
    /// How long a courier is looked for.
    pub fn courier_patience(&self) -> Duration {
        Duration::from_secs(self.courier_patience_s)
    }
}

#[cfg(test)]
mod tests;
