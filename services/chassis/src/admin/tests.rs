use actors::{Cause, Condition, LaneState, OperateError, metrics::Sample};
use axum::{body::Body, http::Request};
use chrono::DateTime;
use futures_util::future::{BoxFuture, FutureExt};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tower::ServiceExt;

use super::*;

mod operate;

struct Fake {
    joined: bool,
    requeue_joined: bool,
    state: LaneState,
}

impl Lanes for Fake {
    fn not_ready(&self) -> Option<String> {
        (!self.joined).then(|| "joining".to_owned())
    }

    fn degraded(&self) -> Vec<Condition> {
        let condition = |state, message: &str| Condition {
            topic: Some("orders".into()),
            partition: Some(2),
            state,
            code: "because".into(),
            message: message.to_owned(),
            since: DateTime::UNIX_EPOCH,
        };
        let joining = (!self.requeue_joined).then(|| condition("degraded", "joining"));
        let halted = (self.state == LaneState::Halted).then(|| condition("halted", "halted"));
        joining.into_iter().chain(halted).collect()
    }

    fn partitions(&self) -> Vec<PartitionStatus> {
        vec![PartitionStatus {
            topic: "orders".into(),
            partition: 2,
            state: self.state,
            since: DateTime::UNIX_EPOCH,
            reason: Some("because".into()),
            epoch: 1,
            next_offset: 7,
            lag: 0,
            window: 0,
            backpressured: false,
            in_flight: 0,
            parked: 0,
            outbox: 0,
            oldest_ms: 0,
            restarts: 0,
        }]
    }

    fn samples(&self) -> Vec<Sample> {
        let labels = vec![("topic", "orders".to_owned())];
        vec![Sample { name: actors::metrics::LAG, labels, value: 3.0 }]
    }

    fn parked(&self, limit: i64) -> BoxFuture<'_, Result<Vec<ParkedStatus>, Cause>> {
        let answer = if limit == 5 { Ok(Vec::new()) } else { Err(Cause::new("down", "no connection")) };
        std::future::ready(answer).boxed()
    }

    fn operate(&self, operation: Operation) -> BoxFuture<'_, Result<String, OperateError>> {
        let answer = match operation {
            Operation::DeadLetterNow { which, .. } => Err(OperateError::NothingWaits(which)),
            Operation::Pause(partition) if partition.partition == 9 => Err(OperateError::NotHere(partition)),
            Operation::Resume(partition) if partition.partition == 8 => {
                Err(OperateError::Half { partition, cause: Cause::new("postgres", "away") })
            }
            other => Ok(format!("{other:?}")),
        };
        std::future::ready(answer).boxed()
    }
}

async fn get_json(health: &Health, path: &str) -> (u16, Value) {
    answer(health, Request::get(path).body(Body::empty()).expect("valid")).await
}

async fn post_json(health: &Health, path: &str, body: &str) -> (u16, Value) {
    answer(health, post(path, body)).await
}

fn post(path: &str, body: &str) -> Request<Body> {
    let request = Request::post(path).header("content-type", "application/json").header(ADMIN, "1");
    request.body(Body::from(body.to_owned())).expect("valid")
}

async fn answer(health: &Health, request: Request<Body>) -> (u16, Value) {
    answer_behind(Guard::default(), health, request).await
}

async fn answer_behind(guard: Guard, health: &Health, request: Request<Body>) -> (u16, Value) {
    let response = app(health.clone(), guard).oneshot(request).await.expect("infallible");
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
    let redis = &body["degraded"][0];
    assert_eq!((status, &redis["code"], &redis["message"]), (200, &json!("redis"), &json!("redis: gone")));
    let again = get_json(&health, "/readyz").await.1;
    assert_eq!(again["degraded"][0]["since"], redis["since"], "it began when it was first seen");
    health.check("other", Need::Required, async || Err("gone".to_owned()));
    let (status, body) = get_json(&health, "/readyz").await;
    assert_eq!((status, &body["status"], &body["checks"]["other"]), (503, &json!("unready"), &json!("gone")));
}

#[tokio::test]
async fn a_task_that_ended_is_an_end_of_the_process() {
    let health = Health::new("trial");
    health.serving();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let task = tokio::spawn(async { stopped.await.unwrap_or_default() });
    health.task("the intake", task.abort_handle());
    assert_eq!(get_text(&health, "/livez").await, (200, "alive\n".to_owned()));
    drop(stop);
    assert_eq!(health.ended().await, "the intake has ended");
    assert_eq!(get_text(&health, "/livez").await, (503, "the intake has ended\n".to_owned()));
    health.draining();
    assert_eq!(get_text(&health, "/livez").await.0, 200, "now it is told to");
}

#[tokio::test]
async fn metrics_are_what_is_there_now() {
    let health = Health::new("trial");
    health.check("redis", Need::Optional, async || Err("gone".to_owned()));
    health.show(Fake { joined: true, requeue_joined: true, state: LaneState::Running });
    crate::telemetry::metrics();
    actors::metrics::begin_topics(["trial-topic"]);
    let (status, text) = get_text(&health, "/metrics").await;
    assert_eq!(status, 200);
    for line in [
        r#"backburner_check_failing{service="trial",check="redis"} 1"#,
        r#"backburner_lane_lag_records{topic="orders"} 3"#,
        r#"backburner_kafka_publish_failure_total{topic="trial-topic"} 0"#,
        r#"backburner_build_info{service="trial",version="#,
        "process_open_fds ",
    ] {
        assert!(text.contains(line), "{line} in {text}");
    }
}

async fn get_text(health: &Health, path: &str) -> (u16, String) {
    let request = Request::get(path).body(Body::empty()).expect("valid");
    let response = app(health.clone(), Guard::default()).oneshot(request).await.expect("infallible");
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.expect("a body").to_bytes();
    (status, String::from_utf8(body.to_vec()).expect("text"))
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
    health.show(Fake { joined: true, requeue_joined: true, state: LaneState::Halted });
    let (status, body) = get_json(&health, "/readyz").await;
    let halted = json!([{"topic": "orders", "partition": 2, "state": "halted", "code": "because", "message": "halted",
                         "since": "1970-01-01T00:00:00Z"}]);
    assert_eq!((status, &body["degraded"]), (200, &halted));
    health.show(Fake { joined: true, requeue_joined: false, state: LaneState::Running });
    let (status, body) = get_json(&health, "/readyz").await;
    assert_eq!((status, &body["degraded"][0]["message"]), (200, &json!("joining")));
    health.show(Fake { joined: false, requeue_joined: true, state: LaneState::Running });
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
    health.show(Fake { joined: true, requeue_joined: true, state: LaneState::Running });
    let (_, body) = get_json(&health, "/partitions").await;
    assert_eq!((&body[0]["topic"], &body[0]["state"]), (&json!("orders"), &json!("running")));
    assert_eq!(get_json(&health, "/parked?limit=5").await, (200, json!([])));
    let (status, body) = get_json(&health, "/parked").await;
    assert_eq!((status, &body["status"]), (503, &json!(503)));
}

#[tokio::test]
async fn a_change_is_asked_for_as_no_web_page_can() {
    let health = Health::new("trial");
    health.show(Fake { joined: true, requeue_joined: true, state: LaneState::Running });
    let path = "/partitions/orders/2/pause";
    let with = |headers: &[(&str, &str)]| {
        let request =
            headers.iter().fold(Request::post(path), |request, (name, value)| request.header(*name, *value));
        request.body(Body::empty()).expect("valid")
    };
    let (json, ours) = (("content-type", "application/json; charset=utf-8"), ("x-backburner-admin", "1"));
    for (headers, status) in [
        (&[][..], 403),
        (&[json], 403),
        (&[ours], 415),
        (&[ours, ("content-type", "text/plain")], 415),
        (&[ours, json, ("origin", "http://localhost:9102")], 403),
        (&[ours, json, ("sec-fetch-site", "same-origin")], 403),
        (&[ours, json], 200),
    ] {
        assert_eq!(answer(&health, with(headers)).await.0, status, "{headers:?}");
    }
    let guard = Guard::with_token("secret");
    for (token, status) in [
        (None, 401),
        (Some("Bearer wrong"), 401),
        (Some("Basic secret"), 401),
        (Some("Bearer secret"), 200),
        (Some("bearer secret"), 200),
    ] {
        let headers: Vec<_> =
            [ours, json].into_iter().chain(token.map(|token| ("authorization", token))).collect();
        assert_eq!(answer_behind(guard.clone(), &health, with(&headers)).await.0, status, "{token:?}");
    }
    let look =
        Request::get("/partitions").header("origin", "http://elsewhere").body(Body::empty()).expect("valid");
    assert_eq!(answer_behind(guard, &health, look).await.0, 200, "looking is free");
}

#[tokio::test]
async fn the_root_shows_what_there_is() {
    for (accept, link) in
        [("*/*", "POST /partitions/TOPIC/PARTITION/reset"), ("text/html", "<a href=\"/readyz\">")]
    {
        let request = Request::get("/").header("accept", accept).body(Body::empty()).expect("valid");
        let response =
            app(Health::new("trial"), Guard::default()).oneshot(request).await.expect("infallible");
        let body = response.into_body().collect().await.expect("a body").to_bytes();
        assert!(String::from_utf8_lossy(&body).contains(link), "{body:?}");
    }
}
