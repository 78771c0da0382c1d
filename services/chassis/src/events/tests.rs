use actors::{Offset, TopicPartition};
use contracts::{
    DeliveryAssigned, DeliveryFailed, OrderCancelled, OrderCompleted, OrderCreated, PaymentFailed,
    PaymentRefunded, PaymentSuccess, RefundRequested,
};
use proptest::prelude::*;
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

const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

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
    let emitted = emit(&envelope(), Some(PARENT));
    assert_eq!(emitted.key.as_deref(), Some(Uuid::from_u128(2).to_string().as_bytes()));
    assert_eq!(emitted.headers.text("correlation-id"), Some("c-1"));
    let Decoded::Event(event) = decode(&record(emitted)).expect("sound") else { panic!("ours") };
    assert_eq!((event.id, event.event_type.as_str()), (Uuid::from_u128(1), "PAYMENT_FAILED"));
    assert_eq!(
        event.body,
        Inbound {
            written_at: event.body.envelope.occurred_at,
            envelope: envelope_at(&event.body),
            traceparent: Some(PARENT.into())
        }
    );
}

#[test]
fn an_event_under_another_key_than_its_orders_is_poison_unless_nobody_wants_it() {
    let order = Uuid::from_u128(2).to_string();
    for key in [None, Some(""), Some("some-key"), Some(&*Uuid::nil().to_string()), Some(&order[1..])] {
        let key = key.map(|key| key.as_bytes().to_vec());
        let misplaced = record(Emit { key, ..emit(&envelope(), None) });
        match decode(&misplaced) {
            Err(Rejection::Poison(cause)) => assert_eq!(cause.code, "wrong-key"),
            other => panic!("{other:?}"),
        }
        assert!(matches!(decode_if(&misplaced, |_| false), Ok(Decoded::Ignored)));
    }
}

fn envelope_at(inbound: &Inbound) -> Envelope {
    Envelope { occurred_at: inbound.envelope.occurred_at, ..envelope() }
}

#[test]
fn a_trace_that_is_none_is_not_passed_on_whatever_its_size() {
    for parent in ["00-a-b-01", "", &"0".repeat(1 << 20)] {
        let Decoded::Event(event) = decode(&record(emit(&envelope(), Some(parent)))).expect("sound") else {
            panic!("ours")
        };
        assert_eq!(event.body.traceparent, None);
    }
}

#[test]
fn a_death_is_told_once_in_each_generation_under_the_name_of_its_letter() {
    let cause = heard(&record(emit(&envelope(), Some(PARENT))));
    let letter = |n: u128| Uuid::from_u128(n);
    let death = |dead_letter_id, generation| actors::Death {
        dead_letter_id,
        class: actors::Class::Permanent,
        code: "refused",
        generation,
    };
    let stalled = |dead_letter_id, generation| {
        let event = contracts::PaymentStalled {
            order_id: Uuid::from_u128(2),
            order_version: 1,
            dead_letter_id,
            event_type: "ORDER_CREATED".into(),
            code: "refused".into(),
            generation,
        };
        buried(&cause, &death(dead_letter_id, generation), event.into())
    };
    assert_eq!(stalled(letter(7), 1), stalled(letter(7), 1));
    let id = |emit: &Emit| match Envelope::parse(emit.value.as_deref().expect("a body")).expect("sound") {
        Parsed::Event(envelope) => (envelope.event_id, envelope.causation_id),
        Parsed::Unknown(known) => panic!("{known:?}"),
    };
    let (first, second) = (stalled(letter(7), 1), stalled(letter(8), 2));
    assert_ne!(id(&first).0, id(&second).0);
    assert_eq!((id(&first).1, id(&second).1), (Some(Uuid::from_u128(1)), Some(Uuid::from_u128(1))));
    assert_eq!(first.headers.text("traceparent"), Some(PARENT));
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

/// Any event, with texts and numbers of any kind.
fn event() -> impl Strategy<Value = contracts::Event> {
    let ids = (any::<u128>(), 1..9_i64, any::<i64>(), any::<i32>());
    (0..9_usize, ids, "[^\u{0}\n]{0,20}", proptest::option::of("[a-z_]{1,9}")).prop_map(
        |(kind, (order, order_version, amount_cents, courier_id), text, payment_token)| {
            let (order_id, provider_reference, reason) = (Uuid::from_u128(order), text.clone(), text.clone());
            match kind {
                0 => OrderCreated {
                    order_id,
                    order_version,
                    customer_id: text.clone(),
                    item: text,
                    quantity: 1,
                    amount_cents,
                    payment_token,
                }
                .into(),
                1 => PaymentSuccess {
                    order_id,
                    order_version,
                    amount_cents,
                    provider_reference,
                    payment_token,
                }
                .into(),
                2 => PaymentFailed { order_id, order_version, reason }.into(),
                3 => PaymentRefunded { order_id, order_version, amount_cents, provider_reference }.into(),
                4 => DeliveryAssigned { order_id, order_version, courier_id, courier: text }.into(),
                5 => DeliveryFailed { order_id, order_version, reason }.into(),
                6 => OrderCompleted { order_id, order_version, courier_id }.into(),
                7 => OrderCancelled { order_id, order_version, reason }.into(),
                _ => RefundRequested { order_id, order_version, amount_cents, reason }.into(),
            }
        },
    )
}

/// A record that tells of any event.
fn told() -> impl Strategy<Value = Record> {
    let times = (0..4_000_000_000_000_i64, prop_oneof![Just(0), 1..4_000_000_000_000_i64]);
    let parent = proptest::option::of(Just(PARENT));
    (any::<u128>(), times, "[!-~]{1,20}", event(), parent).prop_map(
        |(id, (occurred_ms, timestamp_ms), correlation_id, event, parent)| {
            let cause = Envelope {
                event_id: Uuid::from_u128(id),
                occurred_at: DateTime::from_timestamp_millis(occurred_ms).expect("in range"),
                correlation_id,
                causation_id: None,
                event,
            };
            Record { timestamp_ms, ..record(emit(&cause, parent)) }
        },
    )
}

fn heard(record: &Record) -> Inbound {
    let Decoded::Event(event) = decode(record).expect("sound") else { panic!("ours") };
    event.body
}

proptest! {
    /// Whoever decides, however often, and whenever: after a crash, in a later attempt, when its dead letter was put back.
    #[test]
    fn what_an_event_causes_is_the_same_to_the_byte_however_often_it_is_told(record in told(), event in event()) {
        let first = publish(&heard(&record), event.clone());
        // A record that was put back has its place and time as they were, and may have more headers.
        let mut again = record.clone();
        again.headers.push("dlq.id", Some(b"1"));
        prop_assert_eq!(&publish(&heard(&again), event.clone()), &first);

        let cause = heard(&record);
        let said = caused(&cause, event.clone());
        prop_assert_eq!(&emit(&said, cause.traceparent.as_deref()), &first);
        prop_assert_eq!(said.event_id.get_version_num(), 7);
        prop_assert_eq!(said.occurred_at, cause.written_at);
        prop_assert_eq!(said.causation_id, Some(cause.envelope.event_id));
        prop_assert_eq!(&said.correlation_id, &cause.envelope.correlation_id);
    }

    #[test]
    fn other_causes_and_other_types_have_other_ids(record in told(), one in event(), other in event(), id: u128) {
        let cause = heard(&record);
        let same = one.event_type() == other.event_type();
        prop_assert_eq!(caused(&cause, one.clone()).event_id == caused(&cause, other).event_id, same);
        let mut stranger = cause.clone();
        stranger.envelope.event_id = Uuid::from_u128(id);
        prop_assume!(stranger != cause);
        prop_assert_ne!(caused(&stranger, one.clone()).event_id, caused(&cause, one).event_id);
    }
}
