//! The HTTP edge: a stateless proxy in front of the orders service.
//!
//! What it adds is protection: who asks ([`auth`]) and how much ([`rate`]), a limit on bodies and on requests in flight, time-outs, and
//! an answer that says what happened when orders cannot give one. What is asked for, and what is wrong with it, orders decides.
//!
//! - [`operation`]: what can be asked; [`openapi`]: described. [`http`]: the routes. `access`: a line for each request.
//! - `place`: how much is in hand. `forward`: a request's way; [`upstream`]: to orders; `relay`: and back. [`settings`]: its settings.

use std::time::Duration;

use anyhow::anyhow;
use chassis::{
    RunError,
    admin::{self, Health, Need},
    http::Server,
    shutdown::{Stop, trigger},
};

mod access;
pub mod auth;
mod forward;
pub mod http;
pub mod openapi;
pub mod operation;
mod place;
pub mod rate;
mod relay;
pub mod settings;
pub mod upstream;

pub use self::settings::Settings;
use self::{auth::Auth, http::Edge, upstream::Upstream};

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
    let auth = Auth::new(&settings.auth).map_err(RunError::start)?;
    match &auth {
        None => tracing::warn!(
            "nobody has to say who they are (JWT_HS256_SECRET, JWT_JWKS_FILE): everybody sees all orders"
        ),
        // Whoever reaches orders past the gateway could say that they are anybody.
        Some(_) if settings.gateway.token().map_err(RunError::start)?.is_none() => {
            return Err(RunError::Start(anyhow!(
                "tokens are asked for here and orders takes requests from anybody: set GATEWAY_TOKEN, for both"
            )));
        }
        Some(auth) => {
            let reading = tokio::spawn(auth.clone().refresh(listener.clone()));
            health.task("the reading of the keys of tokens", reading.abort_handle());
            let keys = auth.clone();
            health.check("token-keys", Need::Optional, move || std::future::ready(keys.is_fresh()));
        }
    }
    let upstream = Upstream::new(&settings).map_err(RunError::start)?;
    let (orders, tokens) = (upstream.clone(), auth.is_some());
    health.check("orders", Need::Required, move || {
        let orders = orders.clone();
        async move { orders.reachable(tokens).await.map_err(|error| format!("{:#}", anyhow!(error))) }
    });
    let limits = settings.http.limits();
    let guard = settings.admin.guard().map_err(RunError::start)?;
    let admin = admin::serve(settings.admin_listen, guard, health.clone(), limits, listener.clone()).await;
    let mut admin = admin.map_err(RunError::Start)?;
    let app = http::app(Edge::of(&settings, upstream, auth, listener.clone()));
    let http = Server::start(settings.http_listen, app, settings.limits(), listener).await;
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
