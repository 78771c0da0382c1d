//! The settings of the payments service.

use std::{net::SocketAddr, time::Duration};

use chassis::settings::CommonArgs;
use clap::{Args, Parser};

use crate::provider::simulated::SimulatedSettings;

/// The payments service: charges orders and gives charges back.
#[derive(Clone, Debug, Parser)]
#[command(name = "payments", version)]
pub struct Settings {
    /// The service's database, postgres://user:password@host:port/name.
    #[arg(long, env, hide_env_values = true, help_heading = "PostgreSQL")]
    pub payments_database_url: String,
    /// Where health, metrics and partitions are shown: to this machine alone by default.
    #[arg(long, env, default_value = "127.0.0.1:9102", help_heading = "HTTP")]
    pub admin_listen: SocketAddr,
    /// The payment provider.
    #[command(flatten)]
    pub provider: ProviderArgs,
    /// What services have in common.
    #[command(flatten)]
    pub common: CommonArgs,
}

/// How the simulated provider behaves.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Simulation")]
pub struct ProviderArgs {
    /// Share of charges that are declined, 0 to 1.
    #[arg(long, env, default_value = "0.2", value_parser = share)]
    pub provider_decline_rate: f64,
    /// Share of tries in which the provider fails for now, 0 to 1.
    #[arg(long, env, default_value = "0", value_parser = share)]
    pub provider_transient_rate: f64,
    /// How long every answer takes, milliseconds.
    #[arg(long, env, default_value_t = 0)]
    pub provider_latency_ms: u64,
    /// Share of payments whose requests are never answered, 0 to 1.
    #[arg(long, env, default_value = "0", value_parser = share)]
    pub provider_silent_rate: f64,
    /// Another seed declines other orders.
    #[arg(long, env, default_value_t = 0)]
    pub provider_seed: u64,
    /// Keep the provider's own list of charges, with which the ledger is compared (`./dev audit --money`,
    /// `backburner_money_differences`), and in which a void finds a charge whose answer was lost. One more row for each charge.
    #[arg(long, env, default_value_t = true, action = clap::ArgAction::Set)]
    pub provider_book: bool,
    /// How long to wait for an answer before the try counts as failed, milliseconds.
    #[arg(long, env, default_value_t = 2_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub provider_timeout_ms: u64,
}

impl Settings {
    /// For the simulated provider.
    pub fn simulated(&self) -> SimulatedSettings {
        SimulatedSettings {
            decline_rate: self.provider.provider_decline_rate,
            transient_rate: self.provider.provider_transient_rate,
            latency: Duration::from_millis(self.provider.provider_latency_ms),
            silent_rate: self.provider.provider_silent_rate,
            seed: self.provider.provider_seed,
            max_amount_cents: self.common.provider_max_amount_cents,
            test_tokens: self.common.test_tokens,
        }
    }

    /// How long to wait for the provider.
    pub fn provider_timeout(&self) -> Duration {
        Duration::from_millis(self.provider.provider_timeout_ms)
    }
}

fn share(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(share) if (0.0..=1.0).contains(&share) => Ok(share),
        Ok(_) => Err("must be between 0 and 1".to_owned()),
        Err(error) => Err(format!("not a number: {error}")),
    }
}

#[cfg(test)]
mod tests;
