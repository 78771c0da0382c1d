use super::*;
use crate::event::{OrderCancelled, OrderCreated};

fn envelope(event: impl Into<Event>) -> Envelope {
    Envelope {
        event_id: Uuid::from_u128(1),
        occurred_at: DateTime::from_timestamp_millis(1_790_000_000_000).expect("in range"),
        correlation_id: "c-1".into(),
        causation_id: None,
        event: event.into(),
    }
}

fn cancelled() -> Envelope {
    envelope(OrderCancelled { order_id: Uuid::from_u128(2), order_version: 3, reason: "declined".into() })
}

#[test]
fn the_wire_form_is_a_contract() {
    let json = r#"{"event_id":"00000000-0000-0000-0000-000000000001","event_type":"ORDER_CANCELLED","version":1,"occurred_at":"2026-09-21T14:13:20Z","correlation_id":"c-1","causation_id":null,"payload":{"order_id":"00000000-0000-0000-0000-000000000002","order_version":3,"reason":"declined"}}"#;
    assert_eq!(String::from_utf8(cancelled().to_json()).expect("UTF-8"), json);
    assert_eq!(Envelope::parse(json.as_bytes()).expect("parses"), Parsed::Event(Box::new(cancelled())));
}

#[test]
fn unknown_fields_are_ignored_and_optional_ones_may_be_missing() {
    let json = r#"{"event_id":"00000000-0000-0000-0000-000000000001","event_type":"ORDER_CREATED","version":1,"occurred_at":"2026-09-21T14:13:20Z","correlation_id":"c-1","extra":1,
        "payload":{"order_id":"00000000-0000-0000-0000-000000000002","order_version":1,"customer_id":"c","item":"pizza","quantity":1,"amount_cents":5,"colour":"red"}}"#;
    let created = OrderCreated {
        order_id: Uuid::from_u128(2),
        order_version: 1,
        customer_id: "c".into(),
        item: "pizza".into(),
        quantity: 1,
        amount_cents: 5,
        payment_token: None,
    };
    assert_eq!(Envelope::parse(json.as_bytes()).expect("parses"), Parsed::Event(Box::new(envelope(created))));
}

#[test]
fn what_cannot_be_read_says_why() {
    let body = String::from_utf8(cancelled().to_json()).expect("UTF-8");
    let code = |body: &str| Envelope::parse(body.as_bytes()).expect_err("not an event").code();
    assert_eq!(code("not json"), "not-json");
    assert_eq!(code(&body[..body.len() - 1]), "not-json");
    assert_eq!(code("{}"), "bad-envelope");
    assert_eq!(code("[1]"), "bad-envelope");
    assert_eq!(code(&body.replace("\"reason\":\"declined\"", "\"reason\":7")), "bad-payload");
    assert_eq!(code(&body.replace("\"version\":1", "\"version\":2")), "unsupported-version");
    assert_eq!(Envelope::parse(b"\xff\xfe").expect_err("not UTF-8").code(), "not-json");
}

#[test]
fn an_error_names_the_field_and_repeats_no_value() {
    let body = String::from_utf8(cancelled().to_json()).expect("UTF-8");
    let said = |body: &str| Envelope::parse(body.as_bytes()).expect_err("not an event").to_string();
    for (from, to, field) in [
        ("\"reason\":\"declined\"", "\"reason\":4111111111111111".to_owned(), "reason"),
        ("\"order_version\":3", "\"order_version\":\"4111 1111\"".into(), "order_version"),
        ("\"version\":1", format!("\"version\":\"{}\"", "4111".repeat(200_000)), "version"),
        (
            "\"correlation_id\":\"c-1\"",
            format!("\"correlation_id\":\"{}\"", "4111".repeat(200_000)),
            "correlation_id",
        ),
        ("\"correlation_id\":\"c-1\"", "\"correlation_id\":\"4111\\u0000\"".into(), "correlation_id"),
        ("declined", "4111\\u0000".into(), "reason"),
        ("declined", "4111".repeat(10_000), "reason"),
        ("00000000-0000-0000-0000-000000000002", "4111".into(), "order_id"),
        ("00000000-0000-0000-0000-000000000001", "4111".into(), "event_id"),
        ("2026-09-21T14:13:20Z", "4111".into(), "occurred_at"),
    ] {
        let said = said(&body.replace(from, &to));
        assert!(said.contains(&format!("`{field}`")) && !said.contains("4111"), "{from}: {said}");
        assert!(said.len() < 300, "{from}: {said}");
    }
}

#[test]
fn an_unknown_type_is_known_to_be_unknown_whatever_its_version_and_payload() {
    let body = String::from_utf8(cancelled().to_json()).expect("UTF-8");
    let body = body.replace("ORDER_CANCELLED", "ORDER_PRAISED").replace("\"version\":1", "\"version\":9");
    let Parsed::Unknown(known) = Envelope::parse(body.as_bytes()).expect("an envelope") else {
        panic!("not an event of ours");
    };
    assert_eq!((known.event_type.as_str(), known.version), ("ORDER_PRAISED", 9));
}
