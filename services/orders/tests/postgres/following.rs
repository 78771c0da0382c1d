//! Orders that are followed: until they have ended, and event by event.

use std::time::Duration;

use axum::{
    body::Body,
    http::{HeaderMap, Request, StatusCode},
};
use chassis::Correlation;
use contracts::DeliveryAssigned;
use http_body_util::BodyExt;
use orders::http::app;
use serde_json::Value;
use tokio::time::{Instant, timeout};
use tower::ServiceExt;
use uuid::Uuid;

use crate::{
    closing::paid,
    store::{apply, get, inbound},
    support::{FOLLOWERS, Trial, place},
};

const LIMIT: Duration = Duration::from_secs(20);

/// An order's events as they come in.
struct Stream {
    body: Body,
    text: String,
}

impl Stream {
    async fn open(trial: &Trial, order: Uuid, last: Option<&str>) -> Result<Self, (StatusCode, HeaderMap)> {
        let mut request = Request::get(format!("/orders/{order}/events"));
        if let Some(last) = last {
            request = request.header("last-event-id", last);
        }
        let response = app(trial.api()).oneshot(request.body(Body::empty()).expect("valid")).await;
        let (parts, body) = response.expect("infallible").into_parts();
        if parts.status != StatusCode::OK {
            return Err((parts.status, parts.headers));
        }
        assert_eq!(parts.headers["content-type"], "text/event-stream");
        Ok(Self { body, text: String::new() })
    }

    /// Waits for the next message: (id, event, data); `None` at the end.
    async fn next(&mut self) -> Option<(String, String, Value)> {
        loop {
            if let Some((message, rest)) = self.text.split_once("\n\n") {
                let field = |name: &str| {
                    let line = message.lines().find_map(|line| line.strip_prefix(name));
                    line.map_or_else(String::new, |value| value.trim().to_owned())
                };
                let (id, event, data) = (field("id:"), field("event:"), field("data:"));
                self.text = rest.to_owned();
                if !data.is_empty() {
                    return Some((id, event, serde_json::from_str(&data).expect("JSON")));
                }
                continue;
            }
            let frame = timeout(LIMIT, self.body.frame()).await.expect("something within the limit")?;
            let bytes = frame.expect("no error").into_data().expect("data");
            self.text.push_str(std::str::from_utf8(&bytes).expect("a text"));
        }
    }

    /// The rest of it: the ids and types of events, and the states that were told.
    async fn rest(mut self) -> (Vec<String>, Vec<String>) {
        let (mut events, mut states) = (Vec::new(), Vec::new());
        while let Some((id, event, data)) = self.next().await {
            match event.as_str() {
                "order" => states.push(data["status"].as_str().expect("a state").to_owned()),
                _ => events.push(format!("{id} {}", data["event_type"].as_str().expect("a type"))),
            }
        }
        (events, states)
    }
}

fn assigned(order_id: Uuid) -> DeliveryAssigned {
    DeliveryAssigned { order_id, order_version: 2, courier_id: 1, courier: "A".into() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_events_of_an_order_come_as_they_happen_and_go_on_where_they_broke_off() {
    let trial = Trial::start(10_000).await;
    let order = place(&trial.door).await.expect("accepted");
    let mut stream = Stream::open(&trial, order, None).await.expect("opens");
    let (id, _, entry) = stream.next().await.expect("the first");
    assert_eq!((id.as_str(), &entry["event_type"]), ("1", &"ORDER_CREATED".into()));
    let (id, event, view) = stream.next().await.expect("the order");
    assert_eq!((id.as_str(), event.as_str(), &view["status"]), ("", "order", &"PENDING".into()));
    assert!(view["timeline"].is_null());

    apply(&trial, &[inbound(paid(order))]).await;
    let (id, _, entry) = stream.next().await.expect("the second");
    assert_eq!((id.as_str(), &entry["event_type"]), ("2", &"PAYMENT_SUCCESS".into()));
    assert_eq!(stream.next().await.expect("the order").2["status"], "PAID");
    drop(stream);

    let again = Stream::open(&trial, order, Some("1")).await.expect("opens again");
    let rest = tokio::spawn(again.rest());
    apply(&trial, &[inbound(assigned(order))]).await;
    let (events, states) = rest.await.expect("no panic");
    assert_eq!(events, ["2 PAYMENT_SUCCESS", "3 DELIVERY_ASSIGNED", "4 ORDER_COMPLETED"]);
    assert_eq!(states.last().map(String::as_str), Some("COMPLETED"), "{states:?}");

    let whole = Stream::open(&trial, order, None).await.expect("it can be read afterwards").rest().await;
    assert_eq!((whole.0.len(), whole.1), (4, vec!["COMPLETED".to_owned()]));
    let refused =
        async |last: &str| Stream::open(&trial, order, Some(last)).await.err().expect("none").0.as_u16();
    assert_eq!(refused("5").await, 204, "nothing more will come");
    let end = Stream::open(&trial, order, Some("4")).await.expect("the end was not heard").rest().await;
    assert_eq!(end, (vec![], vec!["COMPLETED".to_owned()]));
    assert_eq!(refused("99").await, 204);
    assert_eq!(refused("x").await, 400);
    let unknown = Stream::open(&trial, Uuid::from_u128(7), None).await.err().expect("none").0;
    assert_eq!(unknown, 404);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_ends_with_the_instance_and_there_are_only_so_many() {
    let trial = Trial::start(10_000).await;
    let order = place(&trial.door).await.expect("accepted");
    let api = trial.api();
    let open = async || {
        let request = Request::get(format!("/orders/{order}/events")).body(Body::empty()).expect("valid");
        app(api.clone()).oneshot(request).await.expect("infallible")
    };
    let mut streams = Vec::new();
    for _ in 0..FOLLOWERS {
        let response = open().await;
        assert_eq!(response.status(), 200);
        streams.push(response);
    }
    let refused = open().await;
    assert_eq!((refused.status().as_u16(), refused.headers().contains_key("retry-after")), (503, true));
    drop(streams.pop());
    streams.push(open().await);
    trial.closing.fire();
    for stream in streams {
        let whole = timeout(LIMIT, stream.into_body().collect()).await.expect("it ends");
        assert!(whole.expect("as it should").to_bytes().starts_with(b"id: 1\n"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_waits_for_an_order_is_answered_when_it_has_ended_or_the_time_is_over() {
    let trial = Trial::start(10_000).await;
    let order = place(&trial.door).await.expect("accepted");
    let started = Instant::now();
    let (status, view) = get(&trial, &format!("/orders/{order}?wait=1")).await;
    assert_eq!((status, &view["status"]), (200, &"PENDING".into()));
    assert!(started.elapsed() >= Duration::from_secs(1));
    let path = format!("/orders/{order}?wait=20");
    let by = Correlation { id: "c-cancel".into(), traceparent: "00-a-b-01".into() };
    let started = Instant::now();
    let ((_, view), cancelled) = tokio::join!(get(&trial, &path), trial.closer.cancel(order, by));
    cancelled.expect("cancelled");
    assert_eq!(view["status"], "CANCELLED");
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
    for wrong in ["31", "-1", "x", "1&wait=2"] {
        assert_eq!(get(&trial, &format!("/orders/{order}?wait={wrong}")).await.0, 400, "{wrong}");
    }
}
