use std::sync::Arc;

use actors::{Cause, Condition, LaneState, OperateError, metrics::Sample};
use axum::{
    body::Body,
    http::{HeaderValue, Request},
};
use chrono::DateTime;
use futures_util::future::{BoxFuture, FutureExt};
use http_body_util::BodyExt;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tower::ServiceExt;
use tracing_subscriber::layer::SubscriberExt;

use super::*;

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
async fn an_operator_is_told_what_was_done_or_why_not() {
    let health = Health::new("trial");
    assert_eq!(post_json(&health, "/partitions/orders/2/pause", "").await.0, 404, "there is no group");
    health.show(Fake { joined: true, requeue_joined: true, state: LaneState::Running });
    for (path, body, done) in [
        ("/partitions/orders/2/pause", "", "Pause(orders/2)"),
        ("/partitions/orders/2/resume", "", "Resume(orders/2)"),
        (
            "/partitions/orders/2/reset",
            r#"{"to":"start"}"#,
            "Reset(orders/2, Start, Consent { force: false, from: None })",
        ),
        (
            "/partitions/orders/2/reset",
            r#"{"to":17,"force":true,"from":9}"#,
            "Reset(orders/2, Offset(17), Consent { force: true, from: Some(9) })",
        ),
    ] {
        assert_eq!(post_json(&health, path, body).await, (200, json!({"done": done})), "{path}");
    }
    let retry = r#"{"topic":"orders","partition":2,"key":"k"}"#;
    let (status, body) = post_json(&health, "/parked/retry", retry).await;
    assert_eq!(
        (status, &body["done"]),
        (200, &json!(r#"RetryNow { partition: orders/2, which: Key("k") }"#))
    );
    let by_id = r#"{"topic":"orders","partition":2,"id":7}"#;
    let (_, body) = post_json(&health, "/parked/retry", by_id).await;
    assert_eq!(body["done"], json!("RetryNow { partition: orders/2, which: Id(7) }"));
    let dead_letter = r#"{"topic":"orders","partition":2,"key":"k","reason":"by hand"}"#;
    for (path, body, status) in [
        ("/parked/dead-letter", dead_letter, 404),
        ("/parked/give-up", dead_letter, 404),
        ("/parked/dead-letter", retry, 422),
        ("/parked/retry", "nonsense", 422),
        ("/partitions/orders/2/reset", r#"{"to":1.5}"#, 422),
        ("/partitions/orders/2/reset", r#"{"to":"end","forse":true}"#, 422),
        ("/parked/retry", r#"{"topic":"orders","partition":2}"#, 422),
        ("/partitions/orders/2/reset", r#"{"to":"somewhere"}"#, 422),
        ("/partitions/orders/9/pause", "", 409),
        ("/partitions/orders/two/pause", "", 400),
    ] {
        assert_eq!(post_json(&health, path, body).await.0, status, "{path} {body}");
    }
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
async fn an_error_of_the_body_is_in_our_words() {
    let health = Health::new("trial");
    health.show(Fake { joined: true, requeue_joined: true, state: LaneState::Running });
    for body in [
        "nonsense",
        "{}",
        r#"{"to":"end","force":"yes"}"#,
        r#"{"to":"end","from":"x"}"#,
        r#"{"what":1}"#,
        "[]",
    ] {
        let (status, body) = post_json(&health, "/partitions/orders/2/reset", body).await;
        let said = body["detail"].as_str().expect("a text");
        assert_eq!(status, 422, "{said}");
        for word in ["i64", "struct", "enum", "untagged", "variant", "Option", "yes"] {
            assert!(!said.contains(word), "{said}");
        }
    }
}

#[tokio::test]
async fn a_partition_that_a_path_does_not_name_is_told_in_our_words() {
    let health = Health::new("trial");
    health.show(Fake { joined: true, requeue_joined: true, state: LaneState::Running });
    for place in ["orders/two", "orders/-1", "orders/2147483648", "%ff/2"] {
        for (what, body) in [("pause", ""), ("resume", ""), ("reset", r#"{"to":"start"}"#)] {
            let mut request = post(&format!("/partitions/{place}/{what}"), body);
            request.headers_mut().insert("x-correlation-id", HeaderValue::from_static("c-7"));
            let (status, problem) = answer(&health, request).await;
            let said = problem["detail"].as_str().expect("a text");
            assert_eq!((status, &problem["correlation_id"]), (400, &json!("c-7")), "{place}: {said}");
            assert!(said.contains("in the path") && said.contains("`/partitions`"), "{said}");
            for word in ["i32", "parse", "index", "URL", "two"] {
                assert!(!said.contains(word), "{said}");
            }
        }
    }
    for query in ["limit=many", "limit=-1", "limit=1&limit=2"] {
        let (status, problem) = get_json(&health, &format!("/parked?{query}")).await;
        assert_eq!((status, &problem["errors"][0]["field"]), (400, &json!("limit")), "{query}: {problem}");
    }
}

/// Who reads the log finds each time that somebody asked, once, and what became of it.
#[tokio::test]
async fn what_an_operator_asks_for_is_one_line_whether_it_is_done_or_refused() {
    let health = Health::new("trial");
    health.show(Fake { joined: true, requeue_joined: true, state: LaneState::Running });
    let waiting = r#"{"topic":"orders","partition":2,"key":"k"}"#;
    for (path, body, found) in [
        ("/partitions/orders/2/pause", "", "done=\"Pause(orders/2)\""),
        ("/partitions/orders/9/pause", "", "status=409"),
        ("/partitions/orders/two/pause", "", "status=400"),
        ("/partitions/orders/2/reset", r#"{"to":"start"}"#, "partition=2"),
        ("/partitions/orders/2/reset", r#"{"to":"somewhere"}"#, "status=422"),
        ("/parked/retry", waiting, "topic=\"orders\""),
        ("/parked/retry", "nonsense", "status=422"),
        ("/parked/retry", r#"{"topic":"orders","partition":2}"#, "refused=\"key: either a key or an id"),
        ("/parked/dead-letter", waiting, "status=422"),
    ] {
        let written = Arc::new(Mutex::new(Vec::new()));
        let to = written.clone();
        let lines =
            tracing_subscriber::fmt::layer().with_ansi(false).with_writer(move || Written(to.clone()));
        let listening = tracing::subscriber::set_default(tracing_subscriber::registry().with(lines));
        post_json(&health, path, body).await;
        drop(listening);
        let text = String::from_utf8(written.lock().clone()).expect("UTF-8");
        let lines: Vec<_> = text.lines().filter(|line| line.contains("an operator asked")).collect();
        assert!(lines.len() == 1 && lines[0].contains(found), "{path} {body}: {text}");
        assert!(lines[0].contains("correlation_id"), "{text}");
    }
}

/// Takes lines of the log.
struct Written(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Written {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn one_reset_at_a_time() {
    let health = Health::new("trial");
    health.show(Fake { joined: true, requeue_joined: true, state: LaneState::Running });
    let held = health.resetting().try_lock_owned().expect("free");
    let path = "/partitions/orders/2/reset";
    assert_eq!(post_json(&health, path, r#"{"to":"start"}"#).await.0, 429);
    drop(held);
    assert_eq!(post_json(&health, path, r#"{"to":"start"}"#).await.0, 200);
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
