//! The interface described, for programs (OpenAPI 3.1) and as a page for people.
//!
//! Paths, methods and statuses are those of [`Operation`], of which the router is made.

mod page;
mod schemas;
mod words;

use std::sync::LazyLock;

use serde_json::{Map, Value, json};

use self::words::{PARAMETERS, describe, parameters};
use crate::operation::Operation;

/// The document as it is sent.
pub static TEXT: LazyLock<String> = LazyLock::new(|| document().to_string());
/// The same to be read.
pub static PAGE: LazyLock<String> = LazyLock::new(|| page::render(&document()));

/// The document.
pub fn document() -> Value {
    let mut paths = Map::new();
    for operation in Operation::ALL {
        let method = operation.method().as_str().to_ascii_lowercase();
        paths.insert(operation.path().to_owned(), json!({ method: described(operation) }));
    }
    let parameters: Map<String, Value> =
        PARAMETERS.iter().map(|parameter| (parameter.key.to_owned(), parameter.described())).collect();
    json!({
        "openapi": "3.1.0",
        "jsonSchemaDialect": "https://json-schema.org/draft/2020-12/schema",
        "info": {
            "title": "Backburner",
            "summary": "Orders of food: placed, followed, cancelled.",
            "version": env!("CARGO_PKG_VERSION"),
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "security": [{}, {"token": []}],
        "paths": paths,
        "components": {
            "schemas": schemas::all(),
            "parameters": parameters,
            "headers": words::headers(),
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT",
                          "description": "Asked for where the gateway is told by which key to check it. Customers see their own orders."},
            },
        },
    })
}

fn described(operation: Operation) -> Value {
    let words = describe(operation);
    let answers: Map<String, Value> =
        operation.statuses().iter().map(|status| (status.to_string(), answer(operation, *status))).collect();
    let mut described = json!({
        "operationId": words.id,
        "summary": words.summary,
        "description": words.description,
        "parameters": parameters(operation),
        "responses": answers,
    });
    if !operation.is_guarded() {
        described["security"] = json!([]);
    }
    if operation == Operation::PlaceOrder {
        described["requestBody"] = json!({
            "required": false,
            "description": "Without a body a default order is placed.",
            "content": {"application/json": {"schema": schemas::reference("PlaceOrder"),
                                             "example": {"item": "Ramen", "quantity": 2}}},
        });
    }
    described
}

fn answer(operation: Operation, status: u16) -> Value {
    let mut headers = Map::new();
    let mut header = |name: &str| headers.insert(name.to_owned(), words::header(name));
    header("X-Correlation-ID");
    if operation.is_guarded() {
        header("RateLimit-Policy");
        header("RateLimit");
    }
    for name in words::headers_of(operation, status) {
        header(name);
    }
    let mut answer = json!({"description": words::status(operation, status), "headers": headers});
    if let Some((kind, schema)) = content(operation, status) {
        answer["content"] = json!({ kind: {"schema": schema} });
    }
    answer
}

/// What an answer holds: its media type, and what that is made of.
fn content(operation: Operation, status: u16) -> Option<(&'static str, Value)> {
    match (operation, status) {
        (_, 204) => None,
        (_, 400..) => Some((chassis::problem::CONTENT_TYPE, schemas::reference("Problem"))),
        (Operation::PlaceOrder, _) => Some(("application/json", schemas::reference("Accepted"))),
        (Operation::ListOrders, _) => Some(("application/json", schemas::reference("Page"))),
        (Operation::ShowOrder, _) => Some(("application/json", schemas::reference("Order"))),
        (Operation::CancelOrder, _) => Some((
            "application/json",
            json!({"anyOf": [schemas::reference("Order"), schemas::reference("Accepted")]}),
        )),
        (Operation::FollowOrder, _) => Some(("text/event-stream", json!({"type": "string"}))),
        (Operation::OpenApi, _) => Some(("application/json", json!({"type": "object"}))),
        (Operation::Docs, _) => Some(("text/html", json!({"type": "string"}))),
    }
}

#[cfg(test)]
mod tests;
