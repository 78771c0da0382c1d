//! One line of the log for each request.

use std::time::Instant;

use axum::{
    extract::{MatchedPath, Request},
    middleware::Next,
    response::Response,
};
use chassis::correlation::CORRELATION_ID;

/// Middleware for `axum::middleware::from_fn`: what was asked, how it was answered, and how long that took, in milliseconds until the
/// head of the answer. Of the path only its route is told: the rest is the caller's.
pub(crate) async fn line(request: Request, next: Next) -> Response {
    let method = request.method().clone();
    let route = request.extensions().get::<MatchedPath>().cloned();
    let started = Instant::now();
    let response = next.run(request).await;
    let took = started.elapsed().as_secs_f64() * 1e3;
    let correlation_id = response.headers().get(CORRELATION_ID).and_then(|id| id.to_str().ok());
    tracing::info!(
        method = method.as_str(),
        route = route.as_ref().map_or("none", MatchedPath::as_str),
        status = response.status().as_u16(),
        ms = (took * 10.0).round() / 10.0,
        correlation_id,
        "answered"
    );
    response
}
