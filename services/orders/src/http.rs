//! The routes of the orders service.

use std::time::Duration;

use actors::connection::{Connection, Limits, Trouble};
use axum::{
    Json, Router,
    extract::{Path, State, rejection::PathRejection},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use chassis::{
    Correlation, Problem,
    http::{Body, Params, dress, measured},
};
use deadpool_postgres::Pool;
use serde::Serialize;
use uuid::Uuid;

use crate::{
    closing::{self, Closer},
    domain::Status,
    idempotency::{Key, REPLAYED},
    intake::{Door, Placed, Refusal},
    request::{Accepts, Request},
    store::{self, Filter, Page, View},
};

const RETRY_AFTER: Duration = Duration::from_secs(1);
const DEFAULT_PAGE: i64 = 50;
const MAX_PAGE: i64 = 500;

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
}

/// The routes.
pub fn app(api: Api) -> Router {
    let router = Router::new()
        .route("/orders", post(place).get(list))
        .route("/orders/{id}", get(show))
        .route("/orders/{id}/cancel", post(cancel))
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
    cancel: String,
}

impl Accepted {
    fn new(order_id: Uuid, status: Status) -> Self {
        let itself = format!("/orders/{order_id}");
        Self { order_id, status, links: Links { cancel: format!("{itself}/cancel"), itself } }
    }
}

async fn place(
    State(api): State<Api>,
    correlation: Correlation,
    headers: HeaderMap,
    Body(body): Body,
) -> Result<Response, Problem> {
    let key = Key::of(&headers, &body)?;
    let request = Request::parse(&body, api.accepts)?;
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

async fn show(
    State(api): State<Api>,
    path: Result<Path<String>, PathRejection>,
) -> Result<Json<View>, Problem> {
    order(&api, id_of(path)?).await
}

/// Cancels an order, and answers with what has become of it: CANCELLED, or REFUNDING while what was paid goes back. However often it is
/// asked, it is cancelled once, so it needs no key.
async fn cancel(
    State(api): State<Api>,
    path: Result<Path<String>, PathRejection>,
    correlation: Correlation,
    Body(body): Body,
) -> Result<Response, Problem> {
    let id = id_of(path)?;
    if !matches!(body.trim_ascii(), b"" | b"{}") {
        return Err(Problem::invalid("body", "must be empty: a cancel has no fields"));
    }
    let status = api.closer.cancel(id, correlation).await?;
    // It is done, and that is the answer, whether or not the rest of the order can be read just now.
    Ok(match order(&api, id).await {
        Ok(view) => view.into_response(),
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

async fn order(api: &Api, id: Uuid) -> Result<Json<View>, Problem> {
    let mut tries = Tries::default();
    loop {
        let asked = async {
            let connection = Connection::get(&api.pool).await?;
            connection.read(&Limits::default(), store::get(&*connection, id)).await
        };
        match asked.await {
            Ok(view) => return view.map(Json).ok_or_else(missing),
            Err(trouble) => tries.failed(&trouble)?,
        }
    }
}

/// A page of orders, the latest first.
#[derive(Debug, Serialize)]
struct Listing {
    orders: Vec<View>,
    /// Where the next page is; null on the last.
    next: Option<String>,
}

async fn list(State(api): State<Api>, params: Params) -> Result<Response, Problem> {
    params.only(&["status", "stalled", "limit", "after"])?;
    let status: Option<String> = params.read("status", "a text")?;
    let status = status.map(|text| Status::parse(&text).ok_or_else(unknown_status)).transpose()?;
    let stalled = params.read("stalled", "true or false")?;
    let limit =
        params.read("limit", &format!("a whole number from 1 to {MAX_PAGE}"))?.unwrap_or(DEFAULT_PAGE);
    if !(1..=MAX_PAGE).contains(&limit) {
        return Err(Problem::invalid("limit", format!("must be from 1 to {MAX_PAGE}")));
    }
    let after: Option<Uuid> = params.read("after", "an order's id, as in the `next` of the page before")?;
    let filter = Filter { status, stalled, after };
    let mut tries = Tries::default();
    let Page { orders, last } = loop {
        let asked = async {
            let connection = Connection::get(&api.pool).await?;
            connection.read(&Limits::default(), store::list(&*connection, filter, limit)).await
        };
        match asked.await {
            Ok(page) => break page,
            Err(trouble) => tries.failed(&trouble)?,
        }
    };
    let next = last.map(|after| page_after(Filter { after: Some(after), ..filter }, limit));
    let link = next.as_ref().and_then(|next| HeaderValue::from_str(&format!("<{next}>; rel=\"next\"")).ok());
    let mut response = Json(Listing { orders, next }).into_response();
    response.headers_mut().extend(link.map(|link| (header::LINK, link)));
    Ok(response)
}

/// Where a page of orders is. No part of it needs to be escaped.
fn page_after(filter: Filter, limit: i64) -> String {
    let Filter { status, stalled, after } = filter;
    let status = status.map(|status| format!("&status={status}")).unwrap_or_default();
    let stalled = stalled.map(|stalled| format!("&stalled={stalled}")).unwrap_or_default();
    let after = after.map(|after| format!("&after={after}")).unwrap_or_default();
    format!("/orders?limit={limit}{status}{stalled}{after}")
}

fn unknown_status() -> Problem {
    let known = Status::ALL.map(Status::as_str).join(", ");
    Problem::invalid("status", format!("must be one of {known}"))
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
