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
    middleware,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use bytes::Bytes;
use chassis::{
    Correlation, Problem,
    correlation::{CORRELATION_ID, TRACEPARENT},
    http::{Body, dress, measured},
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use uuid::Uuid;

use crate::{
    access,
    relay::Relay,
    upstream::{Upstream, UpstreamError},
};

const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Headers of a request that orders should see, beside those of the correlation.
const PASSED_UP: [HeaderName; 3] = [header::CONTENT_TYPE, header::ACCEPT, IDEMPOTENCY_KEY];
/// Headers of an answer that the caller should see, beside the correlation id.
const PASSED_DOWN: [HeaderName; 6] = [
    header::CONTENT_TYPE,
    header::CONTENT_LENGTH,
    header::LOCATION,
    header::LINK,
    header::RETRY_AFTER,
    HeaderName::from_static("idempotent-replayed"),
];
/// By which orders knows a request that is sent again.
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

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
        .route("/orders/{id}/cancel", post(cancel))
        .with_state(edge);
    dress(measured(router)).layer(middleware::from_fn(access::line))
}

async fn place(
    State(edge): State<Edge>,
    place: Permit,
    correlation: Correlation,
    mut headers: HeaderMap,
    Body(body): Body,
) -> Result<Response, Problem> {
    if !headers.contains_key(IDEMPOTENCY_KEY) {
        // Where its answer is lost, it can be sent again all the same.
        let key = HeaderValue::from_str(&Uuid::new_v4().to_string());
        headers.extend(key.ok().map(|key| (IDEMPOTENCY_KEY, key)));
    }
    let key = headers.get(IDEMPOTENCY_KEY).cloned();
    // One that is no text is refused by orders.
    let asked = Asked::Place(key.as_ref().and_then(|key| key.to_str().ok()).unwrap_or("as it was"));
    let path = PathAndQuery::from_static("/orders");
    let answer = forward(&edge, place, asked, path, &correlation, &headers, body);
    let mut answer = answer.await.into_response();
    // Whatever the answer is: with it the request can be sent again.
    answer.headers_mut().extend(key.map(|key| (IDEMPOTENCY_KEY, key)));
    Ok(answer)
}

async fn pass(
    State(edge): State<Edge>,
    place: Permit,
    correlation: Correlation,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Response, Problem> {
    forward(&edge, place, Asked::Read, path_of(&uri), &correlation, &headers, Bytes::new()).await
}

async fn cancel(
    State(edge): State<Edge>,
    place: Permit,
    correlation: Correlation,
    headers: HeaderMap,
    uri: Uri,
    Body(body): Body,
) -> Result<Response, Problem> {
    forward(&edge, place, Asked::Cancel, path_of(&uri), &correlation, &headers, body).await
}

fn path_of(uri: &Uri) -> PathAndQuery {
    uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"))
}

/// What a request is for, and what it means that its answer does not come.
#[derive(Clone, Copy, Debug)]
enum Asked<'a> {
    /// To see something.
    Read,
    /// To place an order, with this key.
    Place(&'a str),
    /// To cancel one.
    Cancel,
}

impl Asked<'_> {
    fn method(self) -> Method {
        match self {
            Self::Read => Method::GET,
            Self::Place(_) | Self::Cancel => Method::POST,
        }
    }
}

async fn forward(
    edge: &Edge,
    Permit(place): Permit,
    asked: Asked<'_>,
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
    let answer = edge.upstream.send(asked.method(), path, headers, body).await;
    let (mut parts, body) = answer.map_err(|error| problem(error, asked))?.into_parts();
    let answered = std::mem::take(&mut parts.headers);
    copy(&PASSED_DOWN, &answered, &mut parts.headers);
    let body = AnswerBody::new(Relay::new(body, place, edge.upstream.response_limit()));
    Ok(Response::from_parts(parts, body))
}

fn copy(names: &[HeaderName], from: &HeaderMap, to: &mut HeaderMap) {
    for name in names {
        // What is there twice is not made one here.
        for value in from.get_all(name) {
            to.append(name, value.clone());
        }
    }
}

fn problem(error: UpstreamError, asked: Asked<'_>) -> Problem {
    let source = std::error::Error::source(&error).map(ToString::to_string);
    tracing::warn!(%error, source, "no answer from orders");
    match (error, asked) {
        (error @ UpstreamError::Unreachable(_), _) => {
            Problem::unavailable(format!("{error}, nothing was done by this request: try again"), RETRY_AFTER)
        }
        // No time to retry is named: whoever did just that, without the key, would order twice.
        (error, Asked::Place(key)) => {
            let unknown = "it is not known whether the order was taken";
            let detail = format!(
                "{error}: {unknown}. Send it again with the header `Idempotency-Key: {key}`, which it had"
            );
            Problem::new(StatusCode::GATEWAY_TIMEOUT, detail).coded("outcome-unknown")
        }
        (error, Asked::Cancel) => {
            let unknown = "it is not known whether the order was cancelled";
            let detail = format!("{error}: {unknown}. Look at it, or send this again: it is cancelled once");
            Problem::new(StatusCode::GATEWAY_TIMEOUT, detail).coded("outcome-unknown")
        }
        (error @ UpstreamError::Broken(_), Asked::Read) => {
            Problem::unavailable(error.to_string(), RETRY_AFTER)
        }
        (error @ UpstreamError::TimedOut(_), Asked::Read) => {
            Problem::new(StatusCode::GATEWAY_TIMEOUT, error.to_string())
        }
    }
}

#[cfg(test)]
mod tests;
