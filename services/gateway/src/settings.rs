//! The gateway's settings.

mod auth;

use std::{fmt, net::SocketAddr};

use axum::http::{Uri, uri::Authority};
use chassis::{
    http::Limits,
    settings::{AdminArgs, GatewayTokenArgs, HttpArgs, TelemetryArgs},
};
use clap::Parser;

pub use self::auth::{AuthArgs, AuthKey, JwksAlgorithm};

/// The HTTP edge of the platform.
#[derive(Clone, Debug, Parser)]
#[command(name = "gateway", version)]
pub struct Settings {
    /// Where the platform is to be reached.
    #[arg(long, env, default_value = "0.0.0.0:8000", help_heading = "HTTP")]
    pub http_listen: SocketAddr,
    /// Where health and metrics are shown: this machine alone by default.
    #[arg(long, env, default_value = "127.0.0.1:9100", help_heading = "HTTP")]
    pub admin_listen: SocketAddr,
    /// Who may use the admin port.
    #[command(flatten)]
    pub admin: AdminArgs,
    /// What callers may take.
    #[command(flatten)]
    pub http: HttpArgs,
    /// The orders service, such as http://orders:8081.
    #[arg(long, env, value_parser = base, help_heading = "HTTP")]
    pub orders_url: Base,
    /// Time a connection to orders may take to open, milliseconds.
    #[arg(long, env, default_value_t = 1_000, help_heading = "HTTP")]
    pub connect_timeout_ms: u64,
    /// Time orders may take to answer, milliseconds; orders itself gives up after 8 seconds.
    #[arg(long, env, default_value_t = 10_000, help_heading = "HTTP")]
    pub response_timeout_ms: u64,
    /// Requests in hand at which further ones are refused, with 503.
    #[arg(long, env, default_value_t = 1_024, help_heading = "HTTP")]
    pub max_in_flight: usize,
    /// Those who may follow an order at a time, be it until it has ended or for some seconds; further ones are refused, with 503. Never
    /// more than half of the connections.
    #[arg(long, env, default_value_t = 2_048, help_heading = "HTTP")]
    pub max_streams: usize,
    /// Those of one caller; further ones are refused, with 429. 0 is no limit.
    #[arg(long, env, default_value_t = 32, help_heading = "HTTP")]
    pub streams_per_caller: usize,
    /// Requests a second that one caller may make, by the `sub` of their token or else by their address; 0 is no limit.
    #[arg(long, env, default_value_t = 100, help_heading = "HTTP")]
    pub rate_limit: u32,
    /// Requests that one caller may make at a time.
    #[arg(long, env, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..), help_heading = "HTTP")]
    pub rate_limit_burst: u32,
    /// Proxies in front of the gateway that add to X-Forwarded-For whom they were asked by; 0 takes the address of whoever connects.
    #[arg(long, env, default_value_t = 0, help_heading = "HTTP")]
    pub forwarded_hops: usize,
    /// By what orders knows the gateway.
    #[command(flatten)]
    pub gateway: GatewayTokenArgs,
    /// By what callers say who they are.
    #[command(flatten)]
    pub auth: AuthArgs,
    /// How to log.
    #[command(flatten)]
    pub telemetry: TelemetryArgs,
}

impl Settings {
    /// What callers may take: each of their connections may need one to orders.
    pub fn limits(&self) -> Limits {
        self.http.limits().within_descriptors(2)
    }
}

/// Where a server is: `http://host:port`, without a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Base(pub Authority);

impl fmt::Display for Base {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}", self.0)
    }
}

fn base(text: &str) -> Result<Base, String> {
    let uri: Uri = text.parse().map_err(|error| format!("not a URL: {error}"))?;
    match (uri.scheme_str(), uri.authority(), uri.path(), uri.query()) {
        (Some("http"), Some(authority), "/" | "", None) => Ok(Base(authority.clone())),
        _ => Err("expected http://host:port, without a path".to_owned()),
    }
}

#[cfg(test)]
mod tests;
