//! The routes of the orders service.
//!
//! `caller`: who asks. `listing`: pages of orders. `following`: one of them as it changes. `media`: what bodies are said to be.

mod caller;
mod following;
mod listing;
mod media;

use std::{sync::Arc, time::Duration};

use actors::connection::{Connection, Limits, Trouble};
use axum::{
    Json, Router,
    extract::{Path, State, rejection::PathRejection},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    middleware,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use chassis::{
    Correlation, Problem,
    http::{Body, dress, measured},
    identity::{GATEWAY_CHECK, Secret, only_with},
    shutdown::Listener,
};
use deadpool_postgres::Pool;
use serde::Serialize;
use tokio::sync::Semaphore;
use uuid::Uuid;

use self::caller::Caller;
use crate::{
    closing::{self, Closer},
    domain::Status,
    idempotency::{Key, REPLAYED},
    intake::{Door, Placed, Refusal},
    request::{Accepts, Request},
    store::{self, View},
    watch::Watch,
};

const RETRY_AFTER: Duration = Duration::from_secs(1);

/// What the routes work with.
#[derive(Clone, Debug)]
pub struct Api {
    /// Where orders are placed.
    pub door: Door,
    /// Where they are read: a pool in which nobody waits for long.
    pub pool: Pool,
    /// Where they are cancelled.
    pub closer: Closer,
    /// What may be ordered.
    pub accepts: Accepts,
    /// Where they are followed.
    pub watch: Watch,
    /// Places for those who follow one.
    pub followers: Arc<Semaphore>,
    /// When this instance stops: those who follow an order do so at another one then.
    pub stop: Listener,
    /// What the gateway's requests carry; without it nobody else's are told from them.
    pub token: Option<Secret>,
}

/// The routes.
pub fn app(api: Api) -> Router {
    let token = api.token;
    let router = Router::new()
        .route("/orders", post(place).get(listing::list))
        .route("/orders/{id}", get(following::show))
        .route("/orders/{id}/events", get(following::events))
        .route("/orders/{id}/cancel", post(cancel))
        .route(GATEWAY_CHECK, get(async || StatusCode::NO_CONTENT))
        .route_layer(middleware::from_fn_with_state(token, only_with))
        .route("/livez", get(async || "alive\n"))
        .with_state(api);
    dress(measured(router))
}

#[derive(Debug, Serialize)]
struct Accepted {
    order_id: Uuid,
    status: Status,
    links: Links,
}

/// What can be asked about an order.
#[derive(Debug, Serialize)]
struct Links {
    #[serde(rename = "self")]
    itself: String,
    events: String,
    cancel: String,
}

impl Accepted {
    fn new(order_id: Uuid, status: Status) -> Self {
        let itself = format!("/orders/{order_id}");
        let (events, cancel) = (format!("{itself}/events"), format!("{itself}/cancel"));
        Self { order_id, status, links: Links { itself, events, cancel } }
    }
}

async fn place(
    State(api): State<Api>,
    caller: Caller,
    correlation: Correlation,
    headers: HeaderMap,
    Body(body): Body,
) -> Result<Response, Problem> {
    media::check(&headers, &body)?;
    let key = Key::of(&headers, caller.subject(), &body)?;
    let mut request = Request::parse(&body, api.accepts)?;
    request.customer_id = caller.on_behalf_of(request.customer_id)?;
    // The first answer again, whatever has become of the order meanwhile.
    let Placed { order_id, replayed } = api.door.place(request, key, correlation).await?;
    let mut response = (StatusCode::ACCEPTED, Json(Accepted::new(order_id, Status::Pending))).into_response();
    if let Ok(location) = HeaderValue::from_str(&format!("/orders/{order_id}")) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    if replayed {
        response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
    }
    Ok(response)
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        let said = refusal.to_string();
        match refusal {
            Refusal::Busy(_) | Refusal::Unavailable => Self::unavailable(said, RETRY_AFTER),
            // Whoever is told to come back would place it twice.
            Refusal::Unknown(_) => {
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, said).coded("outcome-unknown")
            }
            Refusal::KeyReused => Self::invalid("Idempotency-Key", said).coded("idempotency-key-reused"),
        }
    }
}

fn missing() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, closing::Refusal::NoOrder.to_string()).coded("no-order")
}

/// The order that a path names. What is no id is none that there is.
fn id_of(path: Result<Path<String>, PathRejection>) -> Result<Uuid, Problem> {
    path.ok().and_then(|Path(id)| Uuid::try_parse(&id).ok()).ok_or_else(missing)
}

/// Cancels an order, and answers with what has become of it: CANCELLED, or REFUNDING while what was paid goes back. However often it is
/// asked, it is cancelled once, so it needs no key.
async fn cancel(
    State(api): State<Api>,
    path: Result<Path<String>, PathRejection>,
    caller: Caller,
    correlation: Correlation,
    Body(body): Body,
) -> Result<Response, Problem> {
    let id = id_of(path)?;
    if !matches!(body.trim_ascii(), b"" | b"{}") {
        return Err(Problem::invalid("body", "must be empty: a cancel has no fields"));
    }
    if caller.only().is_some() {
        // Whose it is never changes.
        order(&api, &caller, id).await?;
    }
    let status = api.closer.cancel(id, correlation).await?;
    // It is done, and that is the answer, whether or not the rest of the order can be read just now.
    Ok(match order(&api, &caller, id).await {
        Ok(view) => Json(view).into_response(),
        Err(_) => Json(Accepted::new(id, status)).into_response(),
    })
}

impl From<closing::Refusal> for Problem {
    fn from(refusal: closing::Refusal) -> Self {
        let said = refusal.to_string();
        match refusal {
            closing::Refusal::NoOrder => missing(),
            closing::Refusal::TooLate(_) => Self::new(StatusCode::CONFLICT, said).coded("order-completed"),
            closing::Refusal::Unavailable(_) => Self::unavailable(said, RETRY_AFTER),
            closing::Refusal::Unknown => {
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, said).coded("outcome-unknown")
            }
        }
    }
}

/// An order as this caller sees it: one of somebody else's is not there.
async fn order(api: &Api, caller: &Caller, id: Uuid) -> Result<View, Problem> {
    let mut tries = Tries::default();
    loop {
        let asked = async {
            let connection = Connection::get(&api.pool).await?;
            connection.read(&Limits::default(), store::get(&*connection, id)).await
        };
        match asked.await {
            Ok(view) => return view.filter(|view| caller.sees(&view.customer_id)).ok_or_else(missing),
            Err(trouble) => tries.failed(&trouble)?,
        }
    }
}

/// A question is asked once more, on another connection, where the first one was no good any more: it broke, or a table has
/// changed since its statements were prepared.
#[derive(Debug, Default)]
struct Tries {
    asked_again: bool,
}

impl Tries {
    /// Whether to ask again; else what to answer.
    fn failed(&mut self, trouble: &Trouble) -> Result<(), Problem> {
        if trouble.is_of_the_connection() && !std::mem::replace(&mut self.asked_again, true) {
            return Ok(());
        }
        let error = trouble.cause();
        match trouble {
            // One line a request would be as many as there are readers.
            Trouble::NoConnection(_) => tracing::debug!(%error, "no connection for a request"),
            _ => tracing::error!(%error, "orders could not be read"),
        }
        Err(Problem::unavailable("orders cannot be read at the moment", RETRY_AFTER))
    }
}

#[cfg(test)]
mod tests;
