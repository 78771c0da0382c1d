//! The routes of the gateway.

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    body::Body as AnswerBody,
    extract::{FromRequestParts, State},
    http::{
        HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header, request::Parts,
        uri::PathAndQuery,
    },
    response::Response,
    routing::{get, post},
};
use bytes::Bytes;
use chassis::{
    Correlation, Problem,
    correlation::{CORRELATION_ID, TRACEPARENT},
    http::{Body, dress, measured},
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::{
    relay::Relay,
    upstream::{Upstream, UpstreamError},
};

const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Headers of a request that orders should see, beside those of the correlation.
const PASSED_UP: [HeaderName; 3] =
    [header::CONTENT_TYPE, header::ACCEPT, HeaderName::from_static("idempotency-key")];
/// Headers of an answer that the caller should see, beside the correlation id.
const PASSED_DOWN: [HeaderName; 4] =
    [header::CONTENT_TYPE, header::CONTENT_LENGTH, header::LOCATION, header::RETRY_AFTER];

/// What the routes work with.
#[derive(Clone, Debug)]
pub struct Edge {
    upstream: Upstream,
    in_flight: Arc<Semaphore>,
}

impl Edge {
    /// An edge that has at most `max_in_flight` requests in hand.
    pub fn new(upstream: Upstream, max_in_flight: usize) -> Self {
        let permits = max_in_flight.min(Semaphore::MAX_PERMITS);
        Self { upstream, in_flight: Arc::new(Semaphore::new(permits)) }
    }
}

/// A request's place among those in hand, taken before its body is read and kept until its answer has been passed on.
#[derive(Debug)]
struct Permit(OwnedSemaphorePermit);

impl FromRequestParts<Edge> for Permit {
    type Rejection = Problem;

    async fn from_request_parts(_: &mut Parts, edge: &Edge) -> Result<Self, Problem> {
        edge.in_flight
            .clone()
            .try_acquire_owned()
            .map(Self)
            .map_err(|_| Problem::unavailable("too many requests are in hand, try again", RETRY_AFTER))
    }
}

/// The routes.
pub fn app(edge: Edge) -> Router {
    let router = Router::new()
        .route("/place-order", post(place))
        .route("/orders", get(pass))
        .route("/orders/{id}", get(pass))
        .with_state(edge);
    dress(measured(router))
}

async fn place(
    State(edge): State<Edge>,
    place: Permit,
    correlation: Correlation,
    headers: HeaderMap,
    Body(body): Body,
) -> Result<Response, Problem> {
    forward(&edge, place, Method::POST, PathAndQuery::from_static("/orders"), &correlation, &headers, body)
        .await
}

async fn pass(
    State(edge): State<Edge>,
    place: Permit,
    correlation: Correlation,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Response, Problem> {
    let path = uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
    forward(&edge, place, Method::GET, path, &correlation, &headers, Bytes::new()).await
}

async fn forward(
    edge: &Edge,
    Permit(place): Permit,
    method: Method,
    path: PathAndQuery,
    correlation: &Correlation,
    given: &HeaderMap,
    body: Bytes,
) -> Result<Response, Problem> {
    let mut headers = HeaderMap::with_capacity(PASSED_UP.len() + 2);
    copy(&PASSED_UP, given, &mut headers);
    for (name, value) in [(CORRELATION_ID, &correlation.id), (TRACEPARENT, &correlation.traceparent)] {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(name, value);
        }
    }
    let changes = method == Method::POST;
    let answer = edge.upstream.send(method, path, headers, body).await;
    let (mut parts, body) = answer.map_err(|error| problem(error, changes))?.into_parts();
    let answered = std::mem::take(&mut parts.headers);
    copy(&PASSED_DOWN, &answered, &mut parts.headers);
    let body = AnswerBody::new(Relay::new(body, place, edge.upstream.response_limit()));
    Ok(Response::from_parts(parts, body))
}

fn copy(names: &[HeaderName], from: &HeaderMap, to: &mut HeaderMap) {
    for name in names {
        if let Some(value) = from.get(name) {
            to.insert(name, value.clone());
        }
    }
}

fn problem(error: UpstreamError, changes: bool) -> Problem {
    let source = std::error::Error::source(&error).map(ToString::to_string);
    tracing::warn!(%error, source, "no answer from orders");
    let unknown = if changes { ": it is not known whether the order was taken" } else { "" };
    match error {
        UpstreamError::Unreachable(_) => {
            Problem::unavailable(format!("{error}, nothing was done: try again"), RETRY_AFTER)
        }
        UpstreamError::Broken(_) => Problem::unavailable(format!("{error}{unknown}"), RETRY_AFTER),
        UpstreamError::TimedOut(_) => Problem::new(StatusCode::GATEWAY_TIMEOUT, format!("{error}{unknown}")),
    }
}

#[cfg(test)]
mod tests;
