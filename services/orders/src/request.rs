//! What a customer may ask for.

use axum::http::StatusCode;
use chassis::Problem;
use serde_json::{Map, Value};

/// Cents that one item costs where the request names no price.
pub const UNIT_PRICE_CENTS: i64 = 1_290;
/// What a request without a body orders.
pub const DEFAULT_ITEM: &str = "Margherita pizza";
/// Who orders where the request does not say.
pub const DEFAULT_CUSTOMER: &str = "guest";
/// Payment tokens that begin so force a path through the simulation.
pub const TEST_TOKEN_PREFIX: &str = "tok_";

const MAX_ITEM: usize = 200;
const MAX_QUANTITY: i64 = 1_000;
const MAX_AMOUNT_CENTS: i64 = 100_000_000;
const MAX_CUSTOMER: usize = 100;
const MAX_TOKEN: usize = 64;

/// A request that makes sense.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// 1 to 200 characters.
    pub item: String,
    /// 1 to 1,000.
    pub quantity: u32,
    /// 0 to 100,000,000.
    pub amount_cents: i64,
    /// 1 to 100 characters.
    pub customer_id: String,
    /// 1 to 64 characters.
    pub payment_token: Option<String>,
}

impl Request {
    /// Reads a body, of whatever content type it claims to be. An empty one orders a default.
    ///
    /// # Errors
    /// 400 for what is no JSON; 422, naming the field, for what makes no sense.
    pub fn parse(body: &[u8], test_tokens: bool) -> Result<Self, Problem> {
        if body.trim_ascii().is_empty() {
            let mut fields = Map::new();
            fields.insert("item".to_owned(), DEFAULT_ITEM.into());
            return Self::of(&fields, test_tokens);
        }
        match serde_json::from_slice(body) {
            Ok(Value::Object(fields)) => Self::of(&fields, test_tokens),
            Ok(_) => {
                Err(Problem::invalid("body", "must be a JSON object such as {\"item\":\"Margherita pizza\"}"))
            }
            Err(error) => {
                let detail = format!(
                    "the body is not JSON ({error}): send an object such as {{\"item\":\"Margherita pizza\"}}"
                );
                Err(Problem::new(StatusCode::BAD_REQUEST, detail))
            }
        }
    }

    fn of(fields: &Map<String, Value>, test_tokens: bool) -> Result<Self, Problem> {
        let item = text(fields, "item", MAX_ITEM)?.ok_or_else(|| Problem::invalid("item", "is required"))?;
        let quantity = integer(fields, "quantity", 1, MAX_QUANTITY)?.unwrap_or(1);
        let amount_cents = integer(fields, "amount_cents", 0, MAX_AMOUNT_CENTS)?;
        let customer_id = text(fields, "customer_id", MAX_CUSTOMER)?;
        let payment_token = text(fields, "payment_token", MAX_TOKEN)?;
        if !test_tokens && payment_token.as_deref().is_some_and(|token| token.starts_with(TEST_TOKEN_PREFIX))
        {
            let reason = "is a test token, and this system does not accept them";
            return Err(Problem::invalid("payment_token", reason));
        }
        Ok(Self {
            item,
            quantity: u32::try_from(quantity).expect("checked to be 1 to 1,000"),
            amount_cents: amount_cents.unwrap_or(quantity * UNIT_PRICE_CENTS),
            customer_id: customer_id.unwrap_or_else(|| DEFAULT_CUSTOMER.to_owned()),
            payment_token,
        })
    }
}

/// A text of 1 to `max` characters; `None` where it is absent or null.
fn text(fields: &Map<String, Value>, name: &'static str, max: usize) -> Result<Option<String>, Problem> {
    let text = match fields.get(name) {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::String(text)) => text,
        Some(_) => return Err(Problem::invalid(name, "must be a text")),
    };
    if text.trim().is_empty() {
        return Err(Problem::invalid(name, "must not be empty"));
    }
    let length = text.chars().count();
    if length > max {
        return Err(Problem::invalid(name, format!("must have at most {max} characters, has {length}")));
    }
    if text.chars().any(char::is_control) {
        return Err(Problem::invalid(name, "must not contain control characters"));
    }
    Ok(Some(text.clone()))
}

/// A whole number from `min` to `max`; `None` where it is absent or null.
fn integer(
    fields: &Map<String, Value>,
    name: &'static str,
    min: i64,
    max: i64,
) -> Result<Option<i64>, Problem> {
    let value = match fields.get(name) {
        None | Some(Value::Null) => return Ok(None),
        Some(value) => value,
    };
    match value.as_i64() {
        Some(number) if (min..=max).contains(&number) => Ok(Some(number)),
        _ => Err(Problem::invalid(
            name,
            format!("must be a whole number from {min} to {max}, is {}", short(value)),
        )),
    }
}

/// What was sent, cut so that an error stays readable.
fn short(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(40) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests;
