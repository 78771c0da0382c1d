//! What operations, parameters, headers and statuses are called and mean.

use serde_json::{Map, Value, json};

use crate::operation::Operation;

/// An operation in words.
#[derive(Clone, Copy, Debug)]
pub(super) struct Words {
    pub(super) id: &'static str,
    pub(super) summary: &'static str,
    pub(super) description: &'static str,
}

pub(super) fn describe(operation: Operation) -> Words {
    let (id, summary, description) = match operation {
        Operation::PlaceOrder => (
            "placeOrder",
            "Place an order",
            "It is stored when this answers, and goes on by itself: ask for it, or follow it. With an Idempotency-Key it can be sent again, and is still one order.",
        ),
        Operation::ListOrders => (
            "listOrders",
            "Look for orders",
            "The latest first. `next` in the answer, and `Link`, say where the next page is.",
        ),
        Operation::ShowOrder => {
            ("showOrder", "Look at an order", "With its events; with `wait`, once it has ended.")
        }
        Operation::FollowOrder => (
            "followOrder",
            "Follow an order",
            "Server-Sent Events until it has ended: a message for each of its events (`id` counts them, data is an Entry), and after them one of type `order` with the order as it is then; of its end that has an id too. A comment every 15 seconds shows that it is alive. After a break it goes on behind Last-Event-ID.",
        ),
        Operation::CancelOrder => (
            "cancelOrder",
            "Cancel an order",
            "However often it is asked, it is cancelled once. What was paid goes back: the order is REFUNDING until it has.",
        ),
        Operation::OpenApi => ("openApi", "This description", ""),
        Operation::Docs => ("docs", "This description as a page", ""),
    };
    Words { id, summary, description }
}

/// A parameter.
#[derive(Clone, Copy, Debug)]
pub(super) struct Parameter {
    /// Its name in the document.
    pub(super) key: &'static str,
    name: &'static str,
    place: &'static str,
    schema: &'static str,
    description: &'static str,
}

impl Parameter {
    pub(super) fn described(self) -> Value {
        let schema: Value = serde_json::from_str(self.schema).unwrap_or_default();
        json!({"name": self.name, "in": self.place, "required": self.place == "path", "schema": schema,
               "description": self.description})
    }
}

const fn parameter(
    key: &'static str,
    name: &'static str,
    place: &'static str,
    schema: &'static str,
    description: &'static str,
) -> Parameter {
    Parameter { key, name, place, schema, description }
}

pub(super) const PARAMETERS: [Parameter; 12] = [
    parameter("id", "id", "path", r#"{"type":"string","format":"uuid"}"#, "The order."),
    parameter(
        "wait",
        "wait",
        "query",
        r#"{"type":"integer","minimum":0,"maximum":30}"#,
        "Seconds to wait for its end.",
    ),
    parameter(
        "lastEventId",
        "Last-Event-ID",
        "header",
        r#"{"type":"integer","minimum":0}"#,
        "The last event that was seen; browsers send it by themselves.",
    ),
    parameter(
        "status",
        "status",
        "query",
        r#"{"type":"string","enum":["PENDING","PAID","REFUNDING","COMPLETED","CANCELLED"]}"#,
        "Orders in this state.",
    ),
    parameter(
        "customerId",
        "customer_id",
        "query",
        r#"{"type":"string","minLength":1,"maxLength":100}"#,
        "Orders of this customer; of a customer with a token there are only their own.",
    ),
    parameter(
        "correlationIdOf",
        "correlation_id",
        "query",
        r#"{"type":"string","minLength":1,"maxLength":128}"#,
        "Orders that a request with this X-Correlation-ID has placed.",
    ),
    parameter(
        "stalled",
        "stalled",
        "query",
        r#"{"type":"boolean"}"#,
        "Orders that wait for a dead letter, or those that do not.",
    ),
    parameter(
        "limit",
        "limit",
        "query",
        r#"{"type":"integer","minimum":1,"maximum":500,"default":50}"#,
        "Orders of a page.",
    ),
    parameter(
        "after",
        "after",
        "query",
        r#"{"type":"string","format":"uuid"}"#,
        "Orders placed before this one: `next` has it.",
    ),
    parameter(
        "idempotencyKey",
        "Idempotency-Key",
        "header",
        r#"{"type":"string","minLength":1,"maxLength":255,"pattern":"^[!-~]+$"}"#,
        "Requests with one key place one order, for 24 hours. The answer has the one it was given where there was none.",
    ),
    parameter(
        "correlationId",
        "X-Correlation-ID",
        "header",
        r#"{"type":"string","minLength":1,"maxLength":128,"pattern":"^[!-~]+$"}"#,
        "Names the request in logs, events and problems; made where it is missing or none.",
    ),
    parameter(
        "traceparent",
        "traceparent",
        "header",
        r#"{"type":"string"}"#,
        "The trace that the order belongs to (W3C Trace Context).",
    ),
];

/// The parameters of an operation, as references.
pub(super) fn parameters(operation: Operation) -> Vec<Value> {
    let own: &[&str] = match operation {
        Operation::PlaceOrder => &["idempotencyKey"],
        Operation::ListOrders => &["status", "customerId", "correlationIdOf", "stalled", "limit", "after"],
        Operation::ShowOrder => &["id", "wait"],
        Operation::FollowOrder => &["id", "lastEventId"],
        Operation::CancelOrder => &["id"],
        Operation::OpenApi | Operation::Docs => return Vec::new(),
    };
    let all = own.iter().chain(&["correlationId", "traceparent"]);
    all.map(|key| json!({ "$ref": format!("#/components/parameters/{key}") })).collect()
}

const HEADERS: [(&str, &str); 8] = [
    ("X-Correlation-ID", "By which logs and events name this request."),
    (
        "RateLimit-Policy",
        "How much one caller may ask: `q` requests in `w` seconds. Not there where there is no limit.",
    ),
    ("RateLimit", "What is left of it: `r` requests, and all of them again in `t` seconds."),
    ("Retry-After", "Seconds after which to try again."),
    ("Location", "Where the order is."),
    ("Idempotency-Key", "With this the request can be sent again."),
    ("Link", "`rel=\"next\"`: the next page."),
    ("WWW-Authenticate", "`Bearer`"),
];

pub(super) fn headers() -> Value {
    let described = |description: &str| json!({"schema": {"type": "string"}, "description": description});
    let headers = HEADERS.iter().map(|(name, description)| ((*name).to_owned(), described(description)));
    Value::Object(headers.collect::<Map<_, _>>())
}

pub(super) fn header(name: &str) -> Value {
    json!({ "$ref": format!("#/components/headers/{name}") })
}

/// Headers of one answer, beside those of all.
pub(super) fn headers_of(operation: Operation, status: u16) -> Vec<&'static str> {
    let mut names = match (operation, status) {
        (Operation::PlaceOrder, 202) => vec!["Location"],
        (Operation::ListOrders, 200) => vec!["Link"],
        (_, 401) => vec!["WWW-Authenticate"],
        (_, 429 | 503) => vec!["Retry-After"],
        _ => Vec::new(),
    };
    // What is refused before it comes to that has none.
    if operation == Operation::PlaceOrder && !matches!(status, 401 | 408 | 413 | 429) {
        names.push("Idempotency-Key");
    }
    names
}

/// What a status means.
pub(super) fn status(operation: Operation, status: u16) -> &'static str {
    match (operation, status) {
        (Operation::PlaceOrder, 202) => "It is stored. `Idempotent-Replayed: true` where it was before.",
        (Operation::CancelOrder, 200) => "CANCELLED, or REFUNDING while what was paid goes back.",
        (_, 200) => "As asked for.",
        (_, 204) => "It has ended, and that was heard.",
        (_, 400) => "A parameter or header makes no sense, or the body is no JSON.",
        (_, 401) => "The token is missing, expired, or none that is taken.",
        (_, 403) => "It is for somebody else.",
        (_, 404) => "There is no such order, or it is somebody else's.",
        (_, 408) => "The body did not come in time.",
        (_, 409) => "It is COMPLETED, and cannot be cancelled any more.",
        (_, 413) => "The body is larger than 64 KiB.",
        (_, 415) => "The body is said to be something else than JSON.",
        (_, 422) => "Fields, or a parameter's value, are wrong: `errors` names them.",
        (_, 429) => "More requests than one caller may make, or orders than one may follow at a time.",
        (_, 500) => {
            "It is not known whether it was done. Without Retry-After: send it again with its Idempotency-Key."
        }
        (_, 503) => "Nothing was done by this request.",
        (Operation::PlaceOrder | Operation::CancelOrder, 504) => {
            "It is not known whether it was done: as with 500."
        }
        (_, 504) => "It was not answered in time.",
        _ => "",
    }
}
