//! The routes of the gateway: what stands in front of each of them.

use std::sync::Arc;

use axum::{
    Router,
    extract::{FromRequestParts, Request, State},
    http::{HeaderMap, HeaderValue, StatusCode, Uri, header, request::Parts},
    middleware::{self, Next},
    response::{Html, IntoResponse, Response},
    routing::{MethodRouter, get, post},
};
use bytes::Bytes;
use chassis::{
    Correlation, Problem,
    http::{Body, Params, Peer, dress, measured},
    identity::unauthorized,
    shutdown::Listener,
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use uuid::Uuid;

use crate::{
    access,
    auth::{Auth, Identity},
    forward::{Asked, IDEMPOTENCY_KEY, RETRY_AFTER, Way, forward},
    openapi,
    operation::Operation,
    rate::{Caller, Rate},
    upstream::Upstream,
};

/// Longest wait for an order's end that orders takes, seconds.
const MAX_WAIT: u64 = 30;
const CHALLENGE: &str = "Bearer realm=\"backburner\"";

/// What the routes work with.
#[derive(Clone, Debug)]
pub struct Edge {
    upstream: Upstream,
    in_flight: Arc<Semaphore>,
    streams: Arc<Semaphore>,
    auth: Option<Auth>,
    rate: Rate,
    stop: Listener,
}

/// How much the gateway has in hand at a time.
#[derive(Clone, Copy, Debug)]
pub struct Capacity {
    /// Requests.
    pub in_flight: usize,
    /// Requests that follow an order.
    pub streams: usize,
}

impl Edge {
    /// An edge before `upstream`. Where there is no `auth` nobody has to say who they are. At `stop`, orders are followed no longer.
    pub fn new(
        upstream: Upstream,
        capacity: Capacity,
        auth: Option<Auth>,
        rate: Rate,
        stop: Listener,
    ) -> Self {
        let places = |count: usize| Arc::new(Semaphore::new(count.min(Semaphore::MAX_PERMITS)));
        let (in_flight, streams) = (places(capacity.in_flight), places(capacity.streams));
        Self { upstream, in_flight, streams, auth, rate, stop }
    }

    /// A place among those who follow an order.
    fn follows(&self) -> Result<OwnedSemaphorePermit, Problem> {
        take(&self.streams, "too many follow orders, try again")
    }
}

fn take(places: &Arc<Semaphore>, full: &str) -> Result<OwnedSemaphorePermit, Problem> {
    places.clone().try_acquire_owned().map_err(|_| Problem::unavailable(full, RETRY_AFTER))
}

/// A request's place among those in hand, taken before its body is read and kept until its answer has been passed on.
#[derive(Debug)]
struct Permit(OwnedSemaphorePermit);

impl FromRequestParts<Edge> for Permit {
    type Rejection = Problem;

    async fn from_request_parts(_: &mut Parts, edge: &Edge) -> Result<Self, Problem> {
        take(&edge.in_flight, "too many requests are in hand, try again").map(Self)
    }
}

/// Who asks, where they have to say it.
#[derive(Clone, Debug)]
struct Who(Option<Identity>);

impl FromRequestParts<Edge> for Who {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, edge: &Edge) -> Result<Self, Problem> {
        match (parts.extensions.get::<Identity>(), &edge.auth) {
            (None, Some(_)) => Err(Problem::new(StatusCode::UNAUTHORIZED, "it is not known who asks")),
            (identity, _) => Ok(Self(identity.cloned())),
        }
    }
}

/// The routes: those of [`Operation`], and no others.
pub fn app(edge: Edge) -> Router {
    let mut router = Router::new();
    for operation in Operation::ALL {
        let mut handler = handler(operation);
        if operation.is_guarded() {
            handler = handler.route_layer(middleware::from_fn_with_state(edge.clone(), guard));
        }
        router = router.route(operation.path(), handler);
    }
    dress(measured(router.with_state(edge))).layer(middleware::from_fn(access::line))
}

fn handler(operation: Operation) -> MethodRouter<Edge> {
    match operation {
        Operation::PlaceOrder => post(place),
        Operation::ListOrders => get(list),
        Operation::ShowOrder => get(show),
        Operation::FollowOrder => get(follow),
        Operation::CancelOrder => post(cancel),
        Operation::OpenApi => get(description),
        Operation::Docs => get(page),
    }
}

/// Middleware: who asks, and whether they ask too much. What is refused for want of a token counts for the address it came from.
async fn guard(State(edge): State<Edge>, mut request: Request, next: Next) -> Response {
    let identity = edge.auth.as_ref().map(|auth| auth.check(request.headers())).transpose();
    let caller = match &identity {
        Ok(Some(identity)) => Caller::Subject(identity.subject.clone()),
        Ok(None) | Err(_) => {
            edge.rate.address(request.extensions().get::<Peer>().copied(), request.headers())
        }
    };
    let counted = edge.rate.count(caller);
    let wait = counted.as_ref().and_then(|(_, wait)| *wait);
    let mut response = match (wait, identity) {
        (Some(wait), _) => {
            let mut problem = Problem::new(
                StatusCode::TOO_MANY_REQUESTS,
                "more requests than one caller may make (RateLimit-Policy), nothing was done by this one: come back later",
            );
            problem.retry_after = Some(wait);
            problem.into_response()
        }
        (None, Err(problem)) => unauthorized(problem, CHALLENGE),
        (None, Ok(identity)) => {
            request.extensions_mut().extend(identity.map(extension).unwrap_or_default());
            next.run(request).await
        }
    };
    if let Some((told, _)) = counted {
        told.on(response.headers_mut());
    }
    response
}

fn extension(identity: Identity) -> axum::http::Extensions {
    let mut extensions = axum::http::Extensions::new();
    extensions.insert(identity);
    extensions
}

async fn place(
    State(edge): State<Edge>,
    Permit(place): Permit,
    Who(who): Who,
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
    let way = Way { upstream: &edge.upstream, place, who, correlation };
    let mut answer = forward(way, asked, Uri::from_static("/orders"), &headers, body).await.into_response();
    // Whatever the answer is: with it the request can be sent again.
    answer.headers_mut().extend(key.map(|key| (IDEMPOTENCY_KEY, key)));
    Ok(answer)
}

async fn list(
    State(edge): State<Edge>,
    Permit(place): Permit,
    Who(who): Who,
    correlation: Correlation,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Response, Problem> {
    let way = Way { upstream: &edge.upstream, place, who, correlation };
    forward(way, Asked::Read { wait: 0 }, uri, &headers, Bytes::new()).await
}

async fn show(
    State(edge): State<Edge>,
    Who(who): Who,
    correlation: Correlation,
    headers: HeaderMap,
    params: Params,
    uri: Uri,
) -> Result<Response, Problem> {
    // What makes no sense is refused by orders.
    let wait = params.read("wait", "a number").ok().flatten().unwrap_or(0).min(MAX_WAIT);
    let place = match wait {
        0 => take(&edge.in_flight, "too many requests are in hand, try again")?,
        _ => edge.follows()?,
    };
    let way = Way { upstream: &edge.upstream, place, who, correlation };
    forward(way, Asked::Read { wait }, uri, &headers, Bytes::new()).await
}

async fn follow(
    State(edge): State<Edge>,
    Who(who): Who,
    correlation: Correlation,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Response, Problem> {
    let way = Way { upstream: &edge.upstream, place: edge.follows()?, who, correlation };
    forward(way, Asked::Follow(edge.stop.clone()), uri, &headers, Bytes::new()).await
}

async fn cancel(
    State(edge): State<Edge>,
    Permit(place): Permit,
    Who(who): Who,
    correlation: Correlation,
    headers: HeaderMap,
    uri: Uri,
    Body(body): Body,
) -> Result<Response, Problem> {
    let way = Way { upstream: &edge.upstream, place, who, correlation };
    forward(way, Asked::Cancel, uri, &headers, body).await
}

async fn description() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], openapi::TEXT.as_str())
}

async fn page() -> impl IntoResponse {
    let policy = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'";
    ([(header::CONTENT_SECURITY_POLICY, policy)], Html(openapi::PAGE.as_str()))
}

#[cfg(test)]
mod tests;
