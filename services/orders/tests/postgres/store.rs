use actors::{Attempt, Handler, Lock};
use axum::{
    body::Body,
    http::{Request, request::Builder},
};
use chassis::events::Inbound;
use chrono::Utc;
use contracts::{DeliveryAssigned, Envelope, Event, PaymentSuccess};
use http_body_util::BodyExt;
use orders::{domain::Status, handler::Orders, http::app};
use serde_json::{Value, json};
use tower::ServiceExt;
use uuid::Uuid;

use crate::support::{Trial, place};

pub(crate) fn inbound(event: impl Into<Event>) -> Inbound {
    let envelope = Envelope {
        event_id: Uuid::new_v4(),
        occurred_at: Utc::now(),
        correlation_id: "c-1".into(),
        causation_id: None,
        event: event.into(),
    };
    Inbound { written_at: envelope.occurred_at, envelope, traceparent: None }
}

/// Takes events through load, decide and save in one transaction, as the runtime does.
pub(crate) async fn apply(trial: &Trial, events: &[Inbound]) {
    let mut keys: Vec<Uuid> = events.iter().map(|event| Orders.key(event)).collect();
    keys.sort_unstable();
    keys.dedup();
    let mut client = trial.pool.get().await.expect("a connection");
    let tx = client.transaction().await.expect("a transaction");
    let mut states = Orders.load(&tx, &keys, Lock::ForUpdate).await.expect("loads").states;
    for event in events {
        let attempt = Attempt {
            event_id: event.envelope.event_id,
            correlation_id: event.envelope.correlation_id.clone(),
            failed_attempts: 0,
            crashes: 0,
            generation: 1,
            now: Utc::now(),
            age: std::time::Duration::ZERO,
        };
        let key = Orders.key(event);
        let decision = Orders.decide(&attempt, event, states.get(&key), &mut (), None).expect("decides");
        if let Some(state) = decision.state.saved() {
            states.insert(key, state);
        }
    }
    Orders.save(&tx, states.into_iter().collect(), ()).await.expect("saves");
    tx.commit().await.expect("commits");
}

pub(crate) async fn get(trial: &Trial, path: &str) -> (u16, Value) {
    ask(trial, Request::get(path)).await
}

pub(crate) async fn post(trial: &Trial, path: &str) -> (u16, Value) {
    ask(trial, Request::post(path)).await
}

async fn ask(trial: &Trial, request: Builder) -> (u16, Value) {
    let request = request.body(Body::empty()).expect("valid");
    let response = app(trial.api()).oneshot(request).await.expect("infallible");
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.expect("a body").to_bytes();
    (status, serde_json::from_slice(&body).expect("JSON"))
}

#[tokio::test]
async fn an_order_is_followed_from_batch_to_batch_and_shown_with_its_timeline() {
    let trial = Trial::start(10_000).await;
    let (id, other) =
        (place(&trial.door).await.expect("accepted"), place(&trial.door).await.expect("accepted"));
    let paid = |order_id| PaymentSuccess {
        order_id,
        order_version: 1,
        amount_cents: 2_580,
        provider_reference: "ch_1".into(),
        payment_token: None,
    };
    // Out of order, and in one batch with another order's.
    let assigned = DeliveryAssigned { order_id: id, order_version: 1, courier_id: 7, courier: "Ada".into() };
    apply(&trial, &[inbound(assigned), inbound(paid(other))]).await;
    let client = trial.pool.get().await.expect("a connection");
    let states = Orders.load(&client, &[id, other, Uuid::nil()], Lock::None).await.expect("loads").states;
    assert_eq!((states[&id].status, states[&id].version), (Status::Pending, 2));
    assert_eq!((states[&other].status, states[&other].facts.paid), (Status::Paid, Some(2_580)));
    assert_eq!(states.len(), 2);

    apply(&trial, &[inbound(paid(id))]).await;
    let (status, order) = get(&trial, &format!("/orders/{id}")).await;
    assert_eq!(
        (status, &order["status"], &order["version"]),
        (200, &json!("COMPLETED"), &json!(3)),
        "{order}"
    );
    assert_eq!(order["courier"], json!({"id": 7, "name": "Ada"}));
    assert_eq!(
        (&order["item"], &order["quantity"], &order["amount_cents"]),
        (&json!("soup"), &json!(2), &json!(2_580))
    );
    let entries = order["timeline"].as_array().expect("a list");
    let timeline: Vec<_> =
        entries.iter().map(|e| (e["event_type"].as_str(), e["service"].as_str())).collect();
    let expected = [
        ("ORDER_CREATED", "orders"),
        ("DELIVERY_ASSIGNED", "delivery"),
        ("PAYMENT_SUCCESS", "payments"),
        ("ORDER_COMPLETED", "orders"),
    ];
    assert_eq!(timeline, expected.map(|(event, service)| (Some(event), Some(service))));
    assert!(
        entries.iter().all(|e| e["occurred_at"].is_string() && e["recorded_at"].is_string()),
        "{entries:?}"
    );
    assert_eq!(get(&trial, &format!("/orders/{}", Uuid::nil())).await.0, 404);
}

#[tokio::test]
async fn a_list_is_read_page_by_page_latest_first() {
    let trial = Trial::start(10_000).await;
    let mut ids = Vec::new();
    for _ in 0..5 {
        ids.push(place(&trial.door).await.expect("accepted").to_string());
    }
    ids.reverse();
    let mut seen = Vec::new();
    let mut path = "/orders?status=PENDING&limit=2".to_owned();
    for _ in 0..3 {
        let (status, page) = get(&trial, &path).await;
        assert_eq!(status, 200);
        let orders = page["orders"].as_array().expect("a list");
        seen.extend(orders.iter().map(|order| order["order_id"].as_str().expect("an id").to_owned()));
        match page["next"].as_str() {
            Some(next) => path = next.to_owned(),
            None => break,
        }
    }
    assert_eq!(seen, ids);
    assert_eq!(get(&trial, "/orders?status=COMPLETED").await.1, json!({"orders": [], "next": null}));
}

/// The connections of the pool have prepared their statements against the table as it was.
#[tokio::test]
async fn a_column_that_changes_its_type_fails_no_request() {
    let trial = Trial::start(10_000).await;
    let id = place(&trial.door).await.expect("accepted");
    let path = format!("/orders/{id}");
    for width in [300, 400, 500] {
        tokio::join!(get(&trial, &path), get(&trial, &path), get(&trial, "/orders"), get(&trial, "/orders"));
        let client = trial.pool.get().await.expect("a connection");
        let alter = format!("alter table orders alter column item type varchar({width})");
        client.batch_execute(&alter).await.expect("altered");
        drop(client);
        for _ in 0..6 {
            let (one, many) = tokio::join!(get(&trial, &path), get(&trial, "/orders"));
            assert_eq!((one.0, many.0), (200, 200), "{one:?} {many:?}");
        }
    }
    // An order whose row holds what none may hides no other.
    let broken = place(&trial.door).await.expect("accepted");
    let client = trial.pool.get().await.expect("a connection");
    client
        .batch_execute(&format!(
            "alter table orders drop constraint orders_state_check;
             update orders set state = 'MISLAID' where order_id = '{broken}'"
        ))
        .await
        .expect("changed");
    let loaded = Orders.load(&client, &[id, broken], Lock::ForUpdate).await.expect("loads");
    assert!(loaded.states.contains_key(&id) && loaded.unreadable.contains_key(&broken));
    let (status, listed) = get(&trial, "/orders").await;
    assert_eq!((status, listed["orders"].as_array().map(Vec::len)), (200, Some(1)));
}

#[tokio::test]
async fn an_order_that_cannot_be_shown_hides_none_of_those_behind_it() {
    let trial = Trial::start(10_000).await;
    let mut placed = Vec::new();
    for _ in 0..5 {
        placed.push(place(&trial.door).await.expect("accepted").to_string());
    }
    let client = trial.pool.get().await.expect("a connection");
    let bad = "update orders set stalled = '\"nobody can read it\"' where order_id::text = $1";
    client.execute(bad, &[&placed[3]]).await.expect("damaged");
    let (mut path, mut seen) = ("/orders?limit=1".to_owned(), Vec::new());
    loop {
        let (status, page) = get(&trial, &path).await;
        assert_eq!(status, 200, "{page}");
        seen.extend(page["orders"].as_array().expect("a list").iter().map(|one| one["order_id"].clone()));
        match page["next"].as_str() {
            Some(next) => next.clone_into(&mut path),
            None => break,
        }
    }
    let expected: Vec<_> =
        placed.iter().enumerate().rev().filter(|(at, _)| *at != 3).map(|(_, id)| json!(id)).collect();
    assert_eq!(seen, expected);
}
