//! The admin port: `/livez`, `/readyz`, `/metrics`, `/partitions`, `/parked`, and what an operator may do to the last two.
//!
//! It is for the inside of a deployment: whoever reaches it may look, and stop partitions unless there is a token.
//!
//! - `health`: what a process knows of itself. `lanes`: what it shows of its consumer group. `scrape`: both as metrics.
//! - `operation`: what an operator may ask for. `operate`: the routes for it. `guard`: who may. `index`: what there is.

mod guard;
mod health;
mod index;
mod lanes;
mod operate;
mod operation;
mod scrape;

use std::{net::SocketAddr, time::Duration};

use actors::{ParkedStatus, PartitionStatus};
use axum::{
    Json, Router,
    extract::State,
    http::{StatusCode, header},
    middleware,
    response::{IntoResponse, Response},
    routing::get,
};

pub use self::{
    guard::{ADMIN, Guard},
    health::{Health, Need},
    lanes::Lanes,
    operation::Operation,
};
use crate::{
    http::{Limits, Params, Server, dress},
    problem::Problem,
    shutdown::Listener,
    telemetry,
};

/// Histograms are folded together this often, whether or not anybody scrapes.
const UPKEEP: Duration = Duration::from_secs(5);

/// Serves the admin port until stopped.
///
/// # Errors
/// When the port is taken.
pub async fn serve(
    address: SocketAddr,
    guard: Guard,
    health: Health,
    limits: Limits,
    stop: Listener,
) -> anyhow::Result<Server> {
    let upkeep = stop.clone();
    let server = Server::start(address, app(health, guard), limits.admin(), stop).await?;
    tokio::spawn(async move {
        let mut ticks = tokio::time::interval(UPKEEP);
        while upkeep.clone().unless_fired(ticks.tick()).await.is_some() {
            telemetry::metrics().run_upkeep();
        }
    });
    Ok(server)
}

/// The routes of the admin port.
pub fn app(health: Health, guard: Guard) -> Router {
    let router = Router::new()
        .route("/", get(index::show))
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .route("/partitions", get(partitions))
        .route("/parked", get(parked))
        .merge(operate::routes())
        .layer(middleware::from_fn_with_state(guard, guard::layer))
        .with_state(health);
    dress(router)
}

async fn readyz(State(health): State<Health>) -> Response {
    let (status, report) = health.report().await;
    (status, Json(report)).into_response()
}

/// Whether it is of use to let the process live on.
async fn livez(State(health): State<Health>) -> Response {
    match health.dead() {
        None => "alive\n".into_response(),
        Some(what) => (StatusCode::SERVICE_UNAVAILABLE, format!("{what}\n")).into_response(),
    }
}

async fn metrics(State(health): State<Health>) -> Response {
    let text = telemetry::metrics().render() + &scrape::render(&health.samples().await);
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response()
}

async fn partitions(State(health): State<Health>) -> Json<Vec<PartitionStatus>> {
    Json(health.lanes().map(|lanes| lanes.partitions()).unwrap_or_default())
}

async fn parked(State(health): State<Health>, params: Params) -> Result<Json<Vec<ParkedStatus>>, Problem> {
    let limit: Option<u16> = params.read("limit", "a whole number from 1 to 1000")?;
    let Some(lanes) = health.lanes() else { return Ok(Json(Vec::new())) };
    let limit = i64::from(limit.unwrap_or(100).clamp(1, 1_000));
    lanes.parked(limit).await.map(Json).map_err(|cause| {
        Problem::unavailable(format!("cannot read the parked records: {cause}"), Duration::from_secs(1))
    })
}

#[cfg(test)]
mod tests;
