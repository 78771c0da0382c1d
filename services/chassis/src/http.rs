//! What our HTTP servers have in common.
//!
//! - `server`: accepts, and stops. `connection`: one peer, and how long it may take. `limits`: how long that is, and how many.

mod connection;
mod limits;
mod server;

use std::{error::Error, future::Future, time::Instant};

use axum::{
    Router,
    body::Bytes,
    extract::{DefaultBodyLimit, FromRequest, MatchedPath, Request, rejection::BytesRejection},
    http::StatusCode,
    middleware::{self, Next},
    response::{IntoResponse, Response},
};

use self::connection::TooSlow;
pub use self::{
    connection::Peer,
    limits::Limits,
    server::{Doors, Server},
};
use crate::{correlation, problem, problem::Problem, shutdown::Listener};

/// No request body of ours is larger, in bytes.
pub const BODY_LIMIT: usize = 64 << 10;

/// Requests answered. Labels: method, route, status.
pub const REQUESTS: &str = "backburner_http_requests_total";
/// Time until a request was answered, seconds. Label: route.
pub const REQUEST_SECONDS: &str = "backburner_http_request_duration_seconds";

/// Counts and times the requests of a router's routes.
pub fn measured<S: Clone + Send + Sync + 'static>(router: Router<S>) -> Router<S> {
    metrics::describe_counter!(REQUESTS, "Requests answered, by method, route and status");
    metrics::describe_histogram!(
        REQUEST_SECONDS,
        metrics::Unit::Seconds,
        "Time until a request was answered"
    );
    router.route_layer(middleware::from_fn(measure))
}

async fn measure(route: MatchedPath, request: Request, next: Next) -> Response {
    let method = request.method().as_str().to_owned();
    let started = Instant::now();
    let response = next.run(request).await;
    let route = route.as_str().to_owned();
    metrics::histogram!(REQUEST_SECONDS, "route" => route.clone()).record(started.elapsed().as_secs_f64());
    let status = response.status().as_str().to_owned();
    metrics::counter!(REQUESTS, "method" => method, "route" => route, "status" => status).increment(1);
    response
}

/// Dresses a router: correlation ids, problems for what is not there, the body limit.
pub fn dress<S: Clone + Send + Sync + 'static>(router: Router<S>) -> Router<S> {
    router
        .fallback(problem::not_found)
        .method_not_allowed_fallback(problem::method_not_allowed)
        .layer(DefaultBodyLimit::max(BODY_LIMIT))
        .layer(middleware::from_fn(correlation::layer))
}

/// A request's whole body: an extractor that answers 413 above the limit of size and 408 above that of time, as problems.
#[derive(Clone, Debug)]
pub struct Body(pub Bytes);

impl<S: Send + Sync> FromRequest<S> for Body {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        Bytes::from_request(request, state).await.map(Self).map_err(refuse)
    }
}

fn refuse(rejection: BytesRejection) -> Problem {
    let mut cause: Option<&(dyn Error + 'static)> = Some(&rejection);
    while let Some(error) = cause {
        if error.is::<TooSlow>() {
            return Problem::new(StatusCode::REQUEST_TIMEOUT, error.to_string());
        }
        cause = error.source();
    }
    match rejection.into_response().status() {
        StatusCode::PAYLOAD_TOO_LARGE => {
            let detail = format!("the body is larger than {BODY_LIMIT} bytes");
            Problem::new(StatusCode::PAYLOAD_TOO_LARGE, detail)
        }
        status => Problem::new(status, "the body could not be read"),
    }
}

/// Runs `future` unless `stop` fires first.
pub async fn unless_stopped<T>(stop: Listener, future: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        () = stop.fired() => None,
        value = future => Some(value),
    }
}

#[cfg(test)]
mod tests {
    use axum::{body::Body as RequestBody, routing::post};
    use tower::ServiceExt;

    use super::*;

    fn app() -> Router {
        dress(Router::new().route("/echo", post(async |Body(bytes): Body| bytes)))
    }

    async fn status(method: &str, path: &str, body: Vec<u8>) -> (u16, String) {
        let request =
            Request::builder().method(method).uri(path).body(RequestBody::from(body)).expect("valid");
        let response = app().oneshot(request).await.expect("infallible");
        let kind = response.headers().get("content-type").map(|v| v.to_str().expect("ASCII").to_owned());
        (response.status().as_u16(), kind.unwrap_or_default())
    }

    #[tokio::test]
    async fn what_is_wrong_with_a_request_is_a_problem() {
        let kind = problem::CONTENT_TYPE.to_owned();
        assert_eq!(status("POST", "/echo", vec![b'x'; BODY_LIMIT]).await.0, 200);
        assert_eq!(status("POST", "/echo", vec![b'x'; BODY_LIMIT + 1]).await, (413, kind.clone()));
        assert_eq!(status("GET", "/echo", Vec::new()).await, (405, kind.clone()));
        assert_eq!(status("GET", "/nowhere", Vec::new()).await, (404, kind));
    }

    #[tokio::test]
    async fn requests_are_counted_by_route_not_by_path() {
        let handle = crate::telemetry::metrics();
        let app = measured(Router::new().route("/things/{id}", axum::routing::get(async || "ok")));
        let request = Request::get("/things/42").body(RequestBody::empty()).expect("valid");
        app.oneshot(request).await.expect("infallible");
        let text = handle.render();
        let line = r#"backburner_http_requests_total{method="GET",route="/things/{id}",status="200"} 1"#;
        assert!(text.contains(line), "{text}");
    }

    #[tokio::test]
    async fn a_server_says_its_port_and_stops() {
        let (trigger, listener) = crate::shutdown::trigger();
        let server = Server::start(([127, 0, 0, 1], 0).into(), app(), Limits::default(), listener);
        let server = server.await.expect("a free port");
        assert_ne!(server.address.port(), 0);
        trigger.fire();
        assert!(server.stopped(std::time::Duration::from_secs(5)).await);
    }
}
