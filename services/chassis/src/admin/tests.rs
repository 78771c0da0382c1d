use axum::{body::Body, http::Request};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tower::ServiceExt;

use super::*;

struct Fake {
    joined: bool,
    state: LaneState,
}

impl Lanes for Fake {
    fn not_ready(&self) -> Option<String> {
        (!self.joined).then(|| "joining".to_owned())
    }

    fn partitions(&self) -> Vec<PartitionStatus> {
        vec![PartitionStatus {
            topic: "orders".into(),
            partition: 2,
            state: self.state,
            reason: Some("because".into()),
            epoch: 1,
            next_offset: 7,
            window: 0,
            in_hand: 0,
            parked: 0,
            outbox: 0,
            oldest_ms: 0,
            restarts: 0,
        }]
    }

    fn parked(&self, limit: i64) -> BoxFuture<'_, Result<Vec<ParkedStatus>, Cause>> {
        let answer = if limit == 5 { Ok(Vec::new()) } else { Err(Cause::new("down", "no connection")) };
        std::future::ready(answer).boxed()
    }
}

async fn get_json(health: &Health, path: &str) -> (u16, Value) {
    let request = Request::get(path).body(Body::empty()).expect("valid");
    let response = app(health.clone()).oneshot(request).await.expect("infallible");
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.expect("a body").to_bytes();
    (status, serde_json::from_slice(&body).expect("JSON"))
}

#[tokio::test]
async fn ready_means_that_all_it_needs_is_there() {
    let health = Health::new("trial");
    assert_eq!(get_json(&health, "/readyz").await.1["status"], "starting");
    health.serving();
    health.check("postgres", Need::Required, async || Ok(()));
    assert_eq!(
        get_json(&health, "/readyz").await,
        (200, json!({"service": "trial", "status": "ready", "checks": {"postgres": "ok"}, "degraded": []}))
    );
    health.check("redis", Need::Optional, async || Err("gone".to_owned()));
    let (status, body) = get_json(&health, "/readyz").await;
    assert_eq!((status, &body["degraded"]), (200, &json!(["redis: gone"])), "Redis only degrades");
    health.check("other", Need::Required, async || Err("gone".to_owned()));
    let (status, body) = get_json(&health, "/readyz").await;
    assert_eq!((status, &body["status"], &body["checks"]["other"]), (503, &json!("unready"), &json!("gone")));
}

#[tokio::test]
async fn a_check_that_hangs_has_failed() {
    let health = Health::new("trial");
    health.serving();
    health.check("postgres", Need::Required, std::future::pending);
    assert_eq!(get_json(&health, "/readyz").await.0, 503);
}

#[tokio::test]
async fn a_halted_partition_degrades_and_a_group_that_has_not_joined_is_not_ready() {
    let health = Health::new("trial");
    health.serving();
    health.show(Fake { joined: true, state: LaneState::Halted });
    let (status, body) = get_json(&health, "/readyz").await;
    assert_eq!((status, &body["degraded"]), (200, &json!(["orders/2 halted: because"])));
    health.show(Fake { joined: false, state: LaneState::Running });
    let (status, body) = get_json(&health, "/readyz").await;
    assert_eq!((status, &body["checks"]["group"]), (503, &json!("joining")));
    health.draining();
    assert_eq!(get_json(&health, "/readyz").await.1["status"], "draining");
}

#[tokio::test]
async fn partitions_and_parked_are_lists() {
    let health = Health::new("trial");
    assert_eq!(get_json(&health, "/partitions").await, (200, json!([])));
    assert_eq!(get_json(&health, "/parked").await, (200, json!([])));
    health.show(Fake { joined: true, state: LaneState::Running });
    let (_, body) = get_json(&health, "/partitions").await;
    assert_eq!((&body[0]["topic"], &body[0]["state"]), (&json!("orders"), &json!("running")));
    assert_eq!(get_json(&health, "/parked?limit=5").await, (200, json!([])));
    let (status, body) = get_json(&health, "/parked").await;
    assert_eq!((status, &body["status"]), (503, &json!(503)));
}
