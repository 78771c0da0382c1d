//! Pages of orders.

use actors::connection::{Connection, Limits};
use axum::{
    Json,
    extract::State,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use chassis::{Problem, http::Params};
use serde::Serialize;
use uuid::Uuid;

use super::{Api, Tries, caller::Caller};
use crate::{
    domain::Status,
    request::MAX_CUSTOMER,
    store::{self, Filter, Page, View},
};

const DEFAULT_PAGE: i64 = 50;
const MAX_PAGE: i64 = 500;
/// Characters of a correlation id, as the gateway takes them.
const MAX_CORRELATION: usize = 128;

/// A page of orders, the latest first.
#[derive(Debug, Serialize)]
struct Listing {
    orders: Vec<View>,
    /// Where the next page is; null on the last.
    next: Option<String>,
}

pub(super) async fn list(
    State(api): State<Api>,
    caller: Caller,
    params: Params,
) -> Result<Response, Problem> {
    params.only(&["status", "customer_id", "correlation_id", "stalled", "limit", "after"])?;
    let status: Option<String> = params.read("status", "a text")?;
    let status = status.map(|text| Status::parse(&text).ok_or_else(unknown_status)).transpose()?;
    let stalled = params.read("stalled", "true or false")?;
    let limit =
        params.read("limit", &format!("a whole number from 1 to {MAX_PAGE}"))?.unwrap_or(DEFAULT_PAGE);
    if !(1..=MAX_PAGE).contains(&limit) {
        return Err(Problem::invalid("limit", format!("must be from 1 to {MAX_PAGE}")));
    }
    let after: Option<Uuid> = params.read("after", "an order's id, as in the `next` of the page before")?;
    let customer_id = text(&params, "customer_id", MAX_CUSTOMER)?;
    let customer_id = caller.on_behalf_of(customer_id)?;
    let correlation_id = text(&params, "correlation_id", MAX_CORRELATION)?;
    let filter = Filter { status, stalled, customer_id, correlation_id, after };
    let mut tries = Tries::default();
    let Page { orders, last } = loop {
        let asked = async {
            let connection = Connection::get(&api.pool).await?;
            connection.read(&Limits::default(), store::list(&*connection, &filter, limit)).await
        };
        match asked.await {
            Ok(page) => break page,
            Err(trouble) => tries.failed(&trouble)?,
        }
    };
    let next = last.map(|after| page_after(&filter, after, limit));
    let link = next.as_ref().and_then(|next| HeaderValue::from_str(&format!("<{next}>; rel=\"next\"")).ok());
    let mut response = Json(Listing { orders, next }).into_response();
    response.headers_mut().extend(link.map(|link| (header::LINK, link)));
    Ok(response)
}

/// Where the page behind `after` is.
fn page_after(filter: &Filter, after: Uuid, limit: i64) -> String {
    let Filter { status, stalled, customer_id, correlation_id, after: _ } = filter;
    let mut query = form_urlencoded::Serializer::new(String::new());
    query.append_pair("limit", &limit.to_string());
    let given = [
        ("status", status.map(|status| status.to_string())),
        ("customer_id", customer_id.clone()),
        ("correlation_id", correlation_id.clone()),
        ("stalled", stalled.map(|stalled| stalled.to_string())),
        ("after", Some(after.to_string())),
    ];
    query.extend_pairs(given.iter().filter_map(|(name, value)| Some((name, value.as_ref()?))));
    format!("/orders?{}", query.finish())
}

/// A parameter of 1 to `max` characters, none of which is a control character.
fn text(params: &Params, name: &'static str, max: usize) -> Result<Option<String>, Problem> {
    let expected = format!("1 to {max} characters, none of them a control character");
    let given: Option<String> = params.read(name, &expected)?;
    let sound =
        |text: &String| (1..=max).contains(&text.chars().count()) && !text.chars().any(char::is_control);
    if given.as_ref().is_some_and(|text| !sound(text)) {
        return Err(Problem::of_field(StatusCode::BAD_REQUEST, name, format!("must be {expected}")));
    }
    Ok(given)
}

fn unknown_status() -> Problem {
    let known = Status::ALL.map(Status::as_str).join(", ");
    Problem::invalid("status", format!("must be one of {known}"))
}
