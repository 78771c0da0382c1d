//! The HTTP edge: a stateless proxy in front of the orders service.
//!
//! What it adds is protection: a limit on bodies and on requests in flight, time-outs, and an answer that says what
//! happened when orders cannot give one. What is asked for, and what is wrong with it, orders decides.
//!
//! - [`http`]: the routes. `access`: a line for each request. [`upstream`]: the way to orders; `relay`: the way back. [`settings`]: its settings.

use std::time::Duration;

use anyhow::anyhow;
use chassis::{
    RunError,
    admin::{self, Health, Need},
    http::Server,
    shutdown::{Stop, trigger},
};

mod access;
pub mod http;
mod relay;
pub mod settings;
pub mod upstream;

pub use self::settings::Settings;
use self::upstream::Upstream;

/// The service's name.
pub const NAME: &str = "gateway";

/// Requests in hand are given this long when the gateway stops.
const HTTP_LIMIT: Duration = Duration::from_secs(8);
const ADMIN_LIMIT: Duration = Duration::from_millis(300);

/// Runs the gateway until `shutdown`, then answers the requests in flight; ports may be 0. Orders need not be reachable yet.
///
/// # Errors
/// When a port is taken, a server fails, or requests are not answered in time.
pub async fn run(settings: Settings, shutdown: Stop) -> Result<(), RunError> {
    let health = Health::new(NAME);
    let (stop, listener) = trigger();
    let upstream = Upstream::new(&settings);
    let orders = upstream.clone();
    health.check("orders", Need::Required, move || {
        let orders = orders.clone();
        async move { orders.reachable().await.map_err(|error| format!("{:#}", anyhow!(error))) }
    });
    let limits = settings.http.limits();
    let guard = settings.admin.guard().map_err(RunError::start)?;
    let admin = admin::serve(settings.admin_listen, guard, health.clone(), limits, listener.clone()).await;
    let mut admin = admin.map_err(RunError::Start)?;
    let app = http::app(http::Edge::new(upstream, settings.max_in_flight));
    // Each connection may need one to orders.
    let http = Server::start(settings.http_listen, app, limits.within_descriptors(2), listener).await;
    let mut http = http.map_err(RunError::Start)?;
    health.watch_doors(http.doors());
    health.serving();
    tracing::info!(http = %http.address, admin = %admin.address, orders = %settings.orders_url, "open");

    let ended = tokio::select! {
        () = shutdown => None,
        ended = http.ended() => Some(ended),
        ended = admin.ended() => Some(ended),
    };
    if let Some(ended) = ended {
        let why = ended.err().unwrap_or_else(|| anyhow!("an HTTP server closed by itself"));
        return Err(RunError::Running(why));
    }
    health.draining();
    stop.fire();
    let answered = http.stopped(HTTP_LIMIT).await;
    admin.stopped(ADMIN_LIMIT).await;
    if answered { Ok(()) } else { Err(RunError::Drain) }
}
