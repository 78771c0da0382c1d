//! Counts and times requests, and tells of them in traces.

use std::time::Instant;

use axum::{
    Router,
    extract::{MatchedPath, Request},
    middleware::{self, Next},
    response::Response,
};

use crate::traces::ServerSpan;

/// Requests answered. Labels: method, route, status.
pub const REQUESTS: &str = "backburner_http_requests_total";
/// Time until a request was answered, seconds. Label: route.
pub const REQUEST_SECONDS: &str = "backburner_http_request_duration_seconds";

/// Counts and times the requests of a router's routes, and makes a span of each.
pub fn measured<S: Clone + Send + Sync + 'static>(router: Router<S>) -> Router<S> {
    metrics::describe_counter!(REQUESTS, "Requests answered, by method, route and status");
    metrics::describe_histogram!(
        REQUEST_SECONDS,
        metrics::Unit::Seconds,
        "Time until a request was answered"
    );
    router.route_layer(middleware::from_fn(measure))
}

async fn measure(route: MatchedPath, mut request: Request, next: Next) -> Response {
    let method = request.method().as_str().to_owned();
    let started = Instant::now();
    let span = ServerSpan::begin(&mut request, route.as_str());
    let response = next.run(request).await;
    if let Some(span) = span {
        span.answered(response.status());
    }
    let route = route.as_str().to_owned();
    metrics::histogram!(REQUEST_SECONDS, "route" => route.clone()).record(started.elapsed().as_secs_f64());
    let status = response.status().as_str().to_owned();
    metrics::counter!(REQUESTS, "method" => method, "route" => route, "status" => status).increment(1);
    response
}
