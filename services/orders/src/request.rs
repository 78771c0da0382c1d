//! What a customer may ask for.

use std::fmt;

use axum::http::StatusCode;
use chassis::{Problem, problem::FieldError};
use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Map, Value};

/// Cents that one item costs where the request names no price.
pub const UNIT_PRICE_CENTS: i64 = 1_290;
/// What a request without a body orders.
pub const DEFAULT_ITEM: &str = "Margherita pizza";
/// Who orders where the request does not say.
pub const DEFAULT_CUSTOMER: &str = "guest";
/// Payment tokens that begin so force a path through the simulation.
pub const TEST_TOKEN_PREFIX: &str = "tok_";

/// All that a request may say.
const FIELDS: [&str; 5] = ["item", "quantity", "amount_cents", "customer_id", "payment_token"];
/// Characters of a field's name that are said again.
const MAX_NAME: usize = 64;
const MAX_ITEM: usize = 200;
const MAX_QUANTITY: i64 = 1_000;
/// Characters of a customer's id.
pub const MAX_CUSTOMER: usize = 100;
const MAX_TOKEN: usize = 64;

/// What is accepted, by the settings.
#[derive(Clone, Copy, Debug)]
pub struct Accepts {
    /// Tokens that force a path through the simulation.
    pub test_tokens: bool,
    /// The largest amount, in cents: what the payment provider takes.
    pub max_amount_cents: i64,
}

/// A request that makes sense.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// 1 to 200 characters.
    pub item: String,
    /// 1 to 1,000.
    pub quantity: u32,
    /// 0 to what the payment provider takes.
    pub amount_cents: i64,
    /// 1 to 100 characters; where nobody is named, the order is a guest's.
    pub customer_id: Option<String>,
    /// 1 to 64 characters.
    pub payment_token: Option<String>,
}

impl Request {
    /// Reads a body, of whatever content type it claims to be. An empty one orders a default.
    ///
    /// # Errors
    /// 400 for what is no JSON; 422, naming every field that makes no sense.
    pub fn parse(body: &[u8], accepts: Accepts) -> Result<Self, Problem> {
        if body.trim_ascii().is_empty() {
            let mut fields = Map::new();
            fields.insert("item".to_owned(), DEFAULT_ITEM.into());
            return Self::of(&fields, accepts);
        }
        match serde_json::from_slice(body) {
            Ok(Body::Object(fields, twice)) if twice.is_empty() => Self::of(&fields, accepts),
            // Which of the two is meant nobody knows: one program takes the first and another the last.
            Ok(Body::Object(_, twice)) => {
                Err(Problem::invalid_fields(twice.iter().map(|name| is_twice(name)).collect()))
            }
            Ok(Body::Other) => {
                Err(Problem::invalid("body", "must be a JSON object such as {\"item\":\"Margherita pizza\"}"))
            }
            Err(error) => {
                let (line, column) = (error.line(), error.column());
                let detail = format!(
                    "the body is no JSON (line {line}, column {column}): send an object such as {{\"item\":\"Margherita pizza\"}}"
                );
                Err(Problem::new(StatusCode::BAD_REQUEST, detail).coded("not-json"))
            }
        }
    }

    fn of(fields: &Map<String, Value>, accepts: Accepts) -> Result<Self, Problem> {
        // What is misspelt would be left out in silence.
        let unknown = fields.keys().filter(|name| !FIELDS.contains(&name.as_str()));
        let mut wrong: Vec<FieldError> = unknown.map(|name| no_field(name)).collect();
        let item = required("item", text(fields, "item", MAX_ITEM)).map_err(|error| wrong.push(error));
        let quantity = integer(fields, "quantity", 1, MAX_QUANTITY).map_err(|error| wrong.push(error));
        let amount_cents = integer(fields, "amount_cents", 0, accepts.max_amount_cents);
        let amount_cents = amount_cents.map_err(|error| wrong.push(error));
        let customer_id = text(fields, "customer_id", MAX_CUSTOMER).map_err(|error| wrong.push(error));
        let payment_token = token(fields, accepts.test_tokens).map_err(|error| wrong.push(error));
        let (Ok(item), Ok(quantity), Ok(amount_cents), Ok(customer_id), Ok(payment_token)) =
            (item, quantity, amount_cents, customer_id, payment_token)
        else {
            return Err(Problem::invalid_fields(wrong));
        };
        if !wrong.is_empty() {
            return Err(Problem::invalid_fields(wrong));
        }
        let quantity = quantity.unwrap_or(1);
        let amount_cents = amount_cents.unwrap_or(quantity * UNIT_PRICE_CENTS);
        if amount_cents > accepts.max_amount_cents {
            // Without a price of its own: so many of them cost more.
            let most = accepts.max_amount_cents;
            let reason = format!("costs {amount_cents} cents, and an order may cost at most {most}");
            return Err(Problem::invalid_fields(vec![FieldError::in_body("quantity", reason)]));
        }
        Ok(Self {
            item,
            quantity: u32::try_from(quantity).expect("checked to be 1 to 1,000"),
            amount_cents,
            customer_id,
            payment_token,
        })
    }
}

/// A body of JSON.
enum Body {
    /// An object: its fields, and the names of those that are there more than once.
    Object(Map<String, Value>, Vec<String>),
    /// Anything else.
    Other,
}

impl<'de> Deserialize<'de> for Body {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reader)
    }
}

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Body;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Body, A::Error> {
        let (mut fields, mut twice) = (Map::new(), Vec::new());
        while let Some((name, value)) = map.next_entry::<String, Value>()? {
            if fields.insert(name.clone(), value).is_some() {
                twice.push(name);
            }
        }
        Ok(Body::Object(fields, twice))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut values: A) -> Result<Body, A::Error> {
        while values.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Body::Other)
    }

    fn visit_unit<E>(self) -> Result<Body, E> {
        Ok(Body::Other)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Body, E> {
        Ok(Body::Other)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Body, E> {
        Ok(Body::Other)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Body, E> {
        Ok(Body::Other)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Body, E> {
        Ok(Body::Other)
    }

    fn visit_str<E>(self, _: &str) -> Result<Body, E> {
        Ok(Body::Other)
    }
}

fn shown(name: &str) -> String {
    name.chars().take(MAX_NAME).collect()
}

fn is_twice(name: &str) -> FieldError {
    FieldError::in_body(shown(name), "is there more than once")
}

fn no_field(name: &str) -> FieldError {
    FieldError::in_body(shown(name), format!("is no field of an order: those are {}", FIELDS.join(", ")))
}

fn wrong(field: &'static str, reason: impl Into<String>) -> FieldError {
    FieldError::in_body(field, reason)
}

fn required<T>(name: &'static str, given: Result<Option<T>, FieldError>) -> Result<T, FieldError> {
    given?.ok_or_else(|| wrong(name, "is required"))
}

/// How to pay, if it is said. A token that forces a path is none where those are off.
fn token(fields: &Map<String, Value>, test_tokens: bool) -> Result<Option<String>, FieldError> {
    let token = text(fields, "payment_token", MAX_TOKEN)?;
    if !test_tokens && token.as_deref().is_some_and(|token| token.starts_with(TEST_TOKEN_PREFIX)) {
        return Err(wrong("payment_token", "is a test token, and this system does not accept them"));
    }
    Ok(token)
}

/// A text of 1 to `max` characters; `None` where it is absent or null.
fn text(fields: &Map<String, Value>, name: &'static str, max: usize) -> Result<Option<String>, FieldError> {
    let text = match fields.get(name) {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::String(text)) => text,
        Some(_) => return Err(wrong(name, "must be a text")),
    };
    if text.trim().is_empty() {
        return Err(wrong(name, "must not be empty"));
    }
    let length = text.chars().count();
    if length > max {
        return Err(wrong(name, format!("must have at most {max} characters, has {length}")));
    }
    if text.chars().any(char::is_control) {
        return Err(wrong(name, "must not contain control characters"));
    }
    Ok(Some(text.clone()))
}

/// A whole number from `min` to `max`; `None` where it is absent or null.
fn integer(
    fields: &Map<String, Value>,
    name: &'static str,
    min: i64,
    max: i64,
) -> Result<Option<i64>, FieldError> {
    let value = match fields.get(name) {
        None | Some(Value::Null) => return Ok(None),
        Some(value) => value,
    };
    match value.as_i64() {
        Some(number) if (min..=max).contains(&number) => Ok(Some(number)),
        _ => Err(wrong(name, format!("must be a whole number from {min} to {max}"))),
    }
}

#[cfg(test)]
mod tests;
