//! What bodies are made of, as JSON Schema.

use serde_json::{Value, json};

/// A reference to one of [`all`].
pub(super) fn reference(name: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{name}") })
}

/// An object of these properties, all of which are there, and of no others.
fn object(description: &str, properties: Value) -> Value {
    let required: Vec<&String> = properties.as_object().into_iter().flat_map(|map| map.keys()).collect();
    json!({"type": "object", "description": description, "required": required, "properties": properties,
           "additionalProperties": false})
}

fn optional(mut object: Value, names: &[&str]) -> Value {
    if let Some(required) = object["required"].as_array_mut() {
        required.retain(|name| !names.iter().any(|optional| name == optional));
    }
    object
}

fn nullable(description: &str, mut of: Value) -> Value {
    of["type"] = json!([of["type"], "null"]);
    of["description"] = json!(description);
    of
}

fn text(description: &str) -> Value {
    json!({"type": "string", "description": description})
}

fn id(description: &str) -> Value {
    json!({"type": "string", "format": "uuid", "description": description})
}

fn time(description: &str) -> Value {
    json!({"type": "string", "format": "date-time", "description": description})
}

fn number(description: &str, least: i64) -> Value {
    json!({"type": "integer", "minimum": least, "description": description})
}

fn status() -> Value {
    json!({"type": "string", "enum": ["PENDING", "PAID", "REFUNDING", "COMPLETED", "CANCELLED"],
           "description": "COMPLETED and CANCELLED are its ends."})
}

/// All of them, by name.
pub(super) fn all() -> Value {
    json!({
        "PlaceOrder": placing(),
        "Accepted": accepted(),
        "Order": optional(order(), &["timeline"]),
        "Page": page(),
        "Problem": problem(),
        "Entry": entry(),
    })
}

fn placing() -> Value {
    let customer =
        "Who orders; `guest` where it is not said. Of a customer with a token it is the token's `sub`.";
    json!({
        "type": "object",
        "description": "What is ordered. A field that there is not is refused.",
        "required": ["item"],
        "additionalProperties": false,
        "properties": {
            "item": {"type": "string", "minLength": 1, "maxLength": 200},
            "quantity": {"type": ["integer", "null"], "minimum": 1, "maximum": 1000, "default": 1},
            "amount_cents": {"type": ["integer", "null"], "minimum": 0,
                             "description": "The whole price, cents; 1290 for each where it is not said. At most what the payment provider takes (PROVIDER_MAX_AMOUNT_CENTS)."},
            "customer_id": {"type": ["string", "null"], "minLength": 1, "maxLength": 100, "description": customer},
            "payment_token": {"type": ["string", "null"], "minLength": 1, "maxLength": 64,
                              "description": "How to pay. Where test tokens are on, `tok_…` forces a path."},
        },
    })
}

fn accepted() -> Value {
    let links = object(
        "Where the order is.",
        json!({"self": text("GET it here"), "events": text("follow it here"), "cancel": text("POST here to cancel it")}),
    );
    object("An order that is there.", json!({"order_id": id("Its id."), "status": status(), "links": links}))
}

fn order() -> Value {
    let courier = object("", json!({"id": number("Their number.", 0), "name": text("Their name.")}));
    let stalled = object(
        "",
        json!({
            "by": {"type": "string", "enum": ["payments", "delivery"], "description": "Who has buried its event."},
            "event_type": text("The event's type."),
            "code": text("What it died of."),
            "since": time("Since when that is known."),
            "dead_letter_id": id("The dead letter, as `dlq-inspector` names it."),
            "generation": number("How often it was put back, and one.", 1),
        }),
    );
    let attention = json!({"type": "string", "enum": ["dead-letter", "refund-overdue", null]});
    object(
        "An order.",
        json!({
            "order_id": id("Its id."),
            "status": status(),
            "version": number("Counts its changes.", 1),
            "customer_id": text("Who ordered."),
            "item": text("What."),
            "quantity": number("How many.", 1),
            "amount_cents": number("The whole price, cents.", 0),
            "reason": nullable("Why it is being refunded or was cancelled.", text("")),
            "courier": nullable("Who delivers.", courier),
            "stalled": nullable("The dead letter that keeps it from going on.", stalled),
            "owed_since": nullable("Since when money may have to go back.", time("")),
            "attention": nullable("What a person has to see to.", attention),
            "correlation_id": text("The conversation it started."),
            "created_at": time("When it was accepted."),
            "updated_at": time("When an event last changed it."),
            "timeline": {"type": "array", "items": reference("Entry"),
                         "description": "Its events, in the order in which they became known; left out of lists."},
        }),
    )
}

fn entry() -> Value {
    object(
        "One event of an order.",
        json!({
            "event_id": id("The event."),
            "event_type": text("Its type."),
            "service": text("The service that said it."),
            "topic": text("The topic it went over."),
            "occurred_at": time("When its cause was written."),
            "recorded_at": time("When it became known: by this a timeline tells how long something took."),
            "order_version": number("The order's version after it.", 1),
        }),
    )
}

fn page() -> Value {
    object(
        "Orders, the latest first.",
        json!({
            "orders": {"type": "array", "items": reference("Order")},
            "next": nullable("Where the next page is; null on the last.", text("")),
        }),
    )
}

fn problem() -> Value {
    let error = object(
        "",
        json!({
            "field": text("The field, parameter or header."),
            "reason": text("What it must be."),
            "pointer": text("Where it is in the body (RFC 6901)."),
        }),
    );
    let problem = object(
        "What went wrong (RFC 9457).",
        json!({
            "type": text("`urn:backburner:problem:` and the code."),
            "code": text("For programs: the same in all versions."),
            "title": text("The kind of problem."),
            "status": number("The status.", 400),
            "detail": text("What, why, and what to do."),
            "correlation_id": text("As in X-Correlation-ID."),
            "errors": {"type": "array", "items": optional(error, &["pointer"])},
        }),
    );
    optional(problem, &["errors"])
}
