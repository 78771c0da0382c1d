//! The settings of the orders service.

use std::{net::SocketAddr, time::Duration};

use chassis::settings::{CommonArgs, GatewayTokenArgs};
use clap::Parser;

/// The orders service: takes orders, follows them through payment and delivery.
#[derive(Clone, Debug, Parser)]
#[command(name = "orders", version)]
pub struct Settings {
    /// The service's database, postgres://user:password@host:port/name.
    #[arg(long, env, hide_env_values = true, help_heading = "PostgreSQL")]
    pub orders_database_url: String,
    /// Where orders are placed and looked at.
    #[arg(long, env, default_value = "0.0.0.0:8081", help_heading = "HTTP")]
    pub http_listen: SocketAddr,
    /// Where health, metrics and partitions are shown: to this machine alone by default.
    #[arg(long, env, default_value = "127.0.0.1:9101", help_heading = "HTTP")]
    pub admin_listen: SocketAddr,
    /// Events that Kafka has not acknowledged at which further orders are refused, with 503.
    #[arg(long, env, default_value_t = 100_000, help_heading = "HTTP")]
    pub outbox_limit: usize,
    /// An order that has not ended after this is cancelled, and what was paid goes back, seconds.
    #[arg(long, env, default_value_t = 900, value_parser = clap::value_parser!(u64).range(1..=31_536_000), help_heading = "Saga")]
    pub order_timeout_s: u64,
    /// Those who may follow an order at a time, be it until it has ended or for some seconds; further ones are refused, with 503. Never
    /// more than half of the connections.
    #[arg(long, env, default_value_t = 2_048, help_heading = "HTTP")]
    pub max_streams: usize,
    /// Who may ask here.
    #[command(flatten)]
    pub gateway: GatewayTokenArgs,
    /// What services have in common.
    #[command(flatten)]
    pub common: CommonArgs,
}

impl Settings {
    /// How long an order may take.
    pub fn order_timeout(&self) -> Duration {
        Duration::from_secs(self.order_timeout_s)
    }
}

#[cfg(test)]
mod tests;
