use actors::{Offset, TopicPartition};
use contracts::PaymentFailed;
use uuid::Uuid;

use super::*;

fn envelope() -> Envelope {
    Envelope {
        event_id: Uuid::from_u128(1),
        occurred_at: Utc::now(),
        correlation_id: "c-1".into(),
        causation_id: None,
        event: PaymentFailed { order_id: Uuid::from_u128(2), order_version: 1, reason: "no".into() }.into(),
    }
}

fn record(emit: Emit) -> Record {
    Record {
        source: TopicPartition::new(emit.topic.as_str(), 0),
        offset: Offset(0),
        timestamp_ms: 0,
        key: emit.key.map(Vec::into_boxed_slice),
        value: emit.value.map(Vec::into_boxed_slice),
        headers: emit.headers,
    }
}

#[test]
fn what_is_emitted_can_be_decoded() {
    let emitted = emit(&envelope(), Some("00-a-b-01"));
    assert_eq!(emitted.key.as_deref(), Some(Uuid::from_u128(2).to_string().as_bytes()));
    assert_eq!(emitted.headers.text("correlation-id"), Some("c-1"));
    let Decoded::Event(event) = decode(&record(emitted)).expect("sound") else { panic!("ours") };
    assert_eq!((event.id, event.event_type.as_str()), (Uuid::from_u128(1), "PAYMENT_FAILED"));
    assert_eq!(
        event.body,
        Inbound {
            written_at: event.body.envelope.occurred_at,
            envelope: envelope_at(&event.body),
            traceparent: Some("00-a-b-01".into())
        }
    );
}

#[test]
fn an_event_causes_the_same_one_however_often_it_is_handled() {
    let handled = || {
        let written = Record { timestamp_ms: 1_790_000_000_123, ..record(emit(&cause(), None)) };
        let Decoded::Event(event) = decode(&written).expect("sound") else { panic!("ours") };
        event.body
    };
    let said = |cause: &Inbound| publish(cause, envelope().event);
    assert_eq!(said(&handled()), said(&handled()));
    let caused = caused(&handled(), envelope().event);
    assert_eq!(caused.occurred_at.timestamp_millis(), 1_790_000_000_123);
    assert_eq!(caused.causation_id, Some(cause().event_id));
}

fn cause() -> Envelope {
    Envelope { occurred_at: DateTime::UNIX_EPOCH, ..envelope() }
}

fn envelope_at(inbound: &Inbound) -> Envelope {
    Envelope { occurred_at: inbound.envelope.occurred_at, ..envelope() }
}

#[test]
fn what_is_not_wanted_or_not_known_is_ignored() {
    let emitted = emit(&envelope(), None);
    assert!(matches!(decode_if(&record(emitted.clone()), |_| false), Ok(Decoded::Ignored)));
    let mut unknown = record(emitted);
    let body = String::from_utf8(envelope().to_json()).expect("UTF-8").replace("PAYMENT_FAILED", "HELLO");
    unknown.value = Some(body.into_bytes().into());
    assert!(matches!(decode(&unknown), Ok(Decoded::Ignored)));
}

#[test]
fn what_cannot_be_read_is_rejected_by_kind() {
    let sound = String::from_utf8(envelope().to_json()).expect("UTF-8");
    let rejected = |body: &str| {
        let mut record = record(emit(&envelope(), None));
        record.value = Some(body.as_bytes().into());
        match decode(&record).expect_err("must be rejected") {
            Rejection::Poison(cause) => ("poison", cause.code.into_owned()),
            Rejection::Permanent(cause) => ("permanent", cause.code.into_owned()),
        }
    };
    assert_eq!(rejected("not json"), ("poison", "not-json".into()));
    assert_eq!(rejected("{}"), ("poison", "bad-envelope".into()));
    assert_eq!(
        rejected(&sound.replace("\"version\":1", "\"version\":2")),
        ("permanent", "unsupported-version".into())
    );
}
