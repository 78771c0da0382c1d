//! The routes of the gateway: what stands in front of each of them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::{
    Extension, Router,
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
    shutdown::{Listener, Stop},
};
use tokio::time::timeout;
use uuid::Uuid;

use crate::{
    access,
    auth::{Auth, Identity},
    forward::{Asked, IDEMPOTENCY_KEY, RETRY_AFTER, Way, forward},
    openapi,
    operation::Operation,
    place::{Full, Place, Places},
    rate::{Caller, Rate},
    settings::Settings,
    upstream::Upstream,
};

/// Longest wait for an order's end that orders takes, seconds.
const MAX_WAIT: u64 = 30;
/// Of times that are later than this, seconds since the Unix epoch, it does not matter by how much.
const FAR: u64 = 1 << 40;
const CHALLENGE: &str = "Bearer realm=\"backburner\"";

/// What the routes work with.
#[derive(Clone, Debug)]
pub struct Edge {
    upstream: Upstream,
    in_flight: Places,
    streams: Places,
    auth: Option<Auth>,
    rate: Rate,
    stop: Listener,
}

impl Edge {
    /// An edge before `upstream`, as the settings have it. Where there is no `auth` nobody has to say who they are. At `stop`, orders are
    /// followed no longer.
    pub fn of(settings: &Settings, upstream: Upstream, auth: Option<Auth>, stop: Listener) -> Self {
        // Those who follow an order stay for long: half of the connections is for the others.
        let streams = settings.max_streams.min(settings.limits().connections / 2);
        Self {
            upstream,
            in_flight: Places::new(settings.max_in_flight, 0),
            streams: Places::new(streams, settings.streams_per_caller),
            auth,
            rate: Rate::new(settings.rate_limit, settings.rate_limit_burst, settings.forwarded_hops),
            stop,
        }
    }

    fn asks(&self) -> Result<Place, Problem> {
        self.in_flight
            .take()
            .map_err(|_| Problem::unavailable("too many requests are in hand, try again", RETRY_AFTER))
    }

    /// A place among those who follow an order.
    fn follows(&self, caller: Caller) -> Result<Place, Problem> {
        self.streams.take_for(caller).map_err(|full| match full {
            Full::All => Problem::unavailable("too many follow orders, try again", RETRY_AFTER),
            Full::Caller => too_many("more orders than one caller may follow at a time", RETRY_AFTER),
        })
    }
}

fn too_many(what: &str, wait: Duration) -> Problem {
    let detail = format!("{what}, nothing was done by this request: come back later");
    Problem { retry_after: Some(wait), ..Problem::new(StatusCode::TOO_MANY_REQUESTS, detail) }
}

/// A request's place among those in hand, taken before its body is read and kept until its answer has been passed on.
#[derive(Debug)]
struct Permit(Place);

impl FromRequestParts<Edge> for Permit {
    type Rejection = Problem;

    async fn from_request_parts(_: &mut Parts, edge: &Edge) -> Result<Self, Problem> {
        edge.asks().map(Self)
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
    let counted = edge.rate.count(&caller);
    let wait = counted.as_ref().and_then(|(_, wait)| *wait);
    let mut response = match (wait, identity) {
        (Some(wait), _) => {
            too_many("more requests than one caller may make (RateLimit-Policy)", wait).into_response()
        }
        (None, Err(problem)) => unauthorized(problem, CHALLENGE),
        (None, Ok(identity)) => {
            let extensions = request.extensions_mut();
            extensions.insert(caller);
            if let Some(identity) = identity {
                extensions.insert(identity);
            }
            next.run(request).await
        }
    };
    if let Some((told, _)) = counted {
        told.on(response.headers_mut());
    }
    response
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
    Extension(caller): Extension<Caller>,
    correlation: Correlation,
    headers: HeaderMap,
    params: Params,
    uri: Uri,
) -> Result<Response, Problem> {
    // What makes no sense is refused by orders.
    let wait = params.read("wait", "a number").ok().flatten().unwrap_or(0).min(MAX_WAIT);
    let place = if wait == 0 { edge.asks()? } else { edge.follows(caller)? };
    let way = Way { upstream: &edge.upstream, place, who, correlation };
    let answer = forward(way, Asked::Read { wait }, uri, &headers, Bytes::new());
    if wait == 0 {
        return answer.await;
    }
    // Else the gateway would wait with it, for longer than it has.
    let stopping = || Problem::unavailable("the gateway is stopping, ask again", RETRY_AFTER);
    edge.stop.clone().unless_fired(answer).await.unwrap_or_else(|| Err(stopping()))
}

async fn follow(
    State(edge): State<Edge>,
    Who(who): Who,
    Extension(caller): Extension<Caller>,
    correlation: Correlation,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Response, Problem> {
    let until = until(edge.stop.clone(), who.as_ref());
    let way = Way { upstream: &edge.upstream, place: edge.follows(caller)?, who, correlation };
    forward(way, Asked::Follow(until), uri, &headers, Bytes::new()).await
}

/// Until the gateway stops, or who asks would have to say it again.
fn until(stop: Listener, who: Option<&Identity>) -> Stop {
    let expires = who.map(|who| UNIX_EPOCH + Duration::from_secs(who.expires.min(FAR)));
    let left = expires.map(|expires| expires.duration_since(SystemTime::now()).unwrap_or_default());
    Box::pin(async move {
        match left {
            Some(left) => drop(timeout(left, stop.fired()).await),
            None => stop.fired().await,
        }
    })
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
