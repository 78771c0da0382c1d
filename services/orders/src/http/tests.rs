use axum::body::Body as RequestBody;
use chassis::database::{Database, TlsFiles};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tokio::sync::mpsc::Receiver;
use tower::ServiceExt;

use super::*;
use crate::intake::{Job, door};

/// An application whose database is nowhere, and the jobs that its door lets through.
fn trial(test_tokens: bool) -> (Router, Receiver<Job>) {
    let (app, jobs, _cancels) = whole(test_tokens);
    (app, jobs)
}

/// The same, with the cancels that come in.
fn whole(test_tokens: bool) -> (Router, Receiver<Job>, Receiver<closing::Job>) {
    let (door, jobs) = door(8);
    let (closer, cancels) = closing::closer(8);
    let nowhere = Database::new("postgres://nobody@127.0.0.1:1/nowhere", "trial", &TlsFiles::default());
    let pool = nowhere.expect("a sound URL").pool(1).expect("a pool");
    let accepts = Accepts { test_tokens, max_amount_cents: 1_000_000 };
    let (watch, followers) = (Watch::default(), Arc::new(Semaphore::new(1)));
    let (_, stop) = chassis::shutdown::trigger();
    (app(Api { door, closer, pool, accepts, watch, followers, stop, token: None }), jobs, cancels)
}

async fn send(
    app: Router,
    request: axum::http::Request<RequestBody>,
) -> (StatusCode, axum::http::HeaderMap, Value) {
    let response = app.oneshot(request).await.expect("infallible");
    let (parts, body) = response.into_parts();
    let body = body.collect().await.expect("a body").to_bytes();
    (parts.status, parts.headers, serde_json::from_slice(&body).expect("JSON"))
}

fn post_order(body: impl Into<RequestBody>) -> axum::http::Request<RequestBody> {
    let request = axum::http::Request::post("/orders").header("x-correlation-id", "c-9");
    request.body(body.into()).expect("valid")
}

fn get_path(path: &str) -> axum::http::Request<RequestBody> {
    axum::http::Request::get(path).body(RequestBody::empty()).expect("valid")
}

#[tokio::test]
async fn an_order_is_accepted_once_it_is_stored() {
    let (app, mut jobs) = trial(true);
    let intake = tokio::spawn(async move {
        let job = jobs.recv().await.expect("a job");
        let order = job.order.clone();
        let placed = Placed { order_id: order.order_id, replayed: false };
        job.reply.send(Ok(placed)).expect("somebody waits");
        order
    });
    let body = r#"{"item":"soup","quantity":2,"payment_token":"tok_ok"}"#;
    let (status, headers, body) = send(app, post_order(body)).await;
    assert!(!headers.contains_key("idempotent-replayed"));
    let order = intake.await.expect("no panic");
    assert_eq!(status, 202);
    let (id, path) = (order.order_id, format!("/orders/{}", order.order_id));
    let links = json!({"self": path, "events": format!("{path}/events"), "cancel": format!("{path}/cancel")});
    assert_eq!(body, json!({"order_id": id, "status": "PENDING", "links": links}));
    assert_eq!(headers["location"], format!("/orders/{}", order.order_id).as_str());
    assert_eq!(headers["x-correlation-id"], "c-9");
    assert_eq!((order.correlation_id.as_str(), order.item.as_str(), order.quantity), ("c-9", "soup", 2));
}

#[tokio::test]
async fn a_request_that_was_sent_before_gets_its_answer_again_and_says_so() {
    let (app, mut jobs) = trial(false);
    let placed = Placed { order_id: Uuid::from_u128(7), replayed: true };
    let intake = tokio::spawn(async move {
        let job = jobs.recv().await.expect("a job");
        job.reply.send(Ok(placed)).expect("somebody waits");
        job.key
    });
    let mut request = post_order("");
    request.headers_mut().insert("idempotency-key", HeaderValue::from_static("k-1"));
    let (status, headers, body) = send(app, request).await;
    let key = intake.await.expect("no panic").expect("it has one");
    assert_eq!((status, key.key.as_str(), key.subject.as_str()), (StatusCode::ACCEPTED, "k-1", ""));
    assert_eq!((&body["order_id"], &body["status"]), (&json!(placed.order_id), &json!("PENDING")));
    assert_eq!(headers["idempotent-replayed"], "true");
    assert_eq!(headers["location"], format!("/orders/{}", placed.order_id).as_str());
}

/// What a request gets that the intake refuses so.
async fn refused(refusal: &Refusal) -> (StatusCode, axum::http::HeaderMap, Value) {
    let (app, mut jobs) = trial(false);
    let answer = refusal.clone();
    let intake = tokio::spawn(async move {
        jobs.recv().await.expect("a job").reply.send(Err(answer)).expect("somebody waits");
    });
    let answered = send(app, post_order("")).await;
    intake.await.expect("no panic");
    answered
}

#[tokio::test]
async fn who_must_not_just_try_again_is_told_no_time_to_retry() {
    let unknown = Refusal::Unknown(Uuid::from_u128(1));
    for (refusal, expected) in [(unknown, 500), (Refusal::KeyReused, 422)] {
        let (status, headers, body) = refused(&refusal).await;
        assert_eq!((status.as_u16(), headers.contains_key("retry-after")), (expected, false));
        assert!(body["detail"].as_str().expect("a text").contains(&refusal.to_string()), "{body}");
    }
}

#[tokio::test]
async fn a_key_that_is_none_is_refused_before_the_body_is_looked_at() {
    let (app, mut jobs) = trial(false);
    let mut request = post_order("not json");
    request.headers_mut().insert("idempotency-key", HeaderValue::from_static("a b"));
    let (status, _, body) = send(app, request).await;
    assert_eq!((status.as_u16(), &body["errors"][0]["field"]), (400, &json!("Idempotency-Key")));
    assert!(jobs.try_recv().is_err());
}

#[tokio::test]
async fn a_refusal_is_a_problem_with_a_time_to_retry() {
    for refusal in [Refusal::Busy("full"), Refusal::Unavailable] {
        let (status, headers, body) = refused(&refusal).await;
        assert_eq!((status.as_u16(), &headers["retry-after"]), (503, &HeaderValue::from_static("1")));
        assert_eq!(body["detail"], refusal.to_string());
        assert_eq!(
            (&body["correlation_id"], &headers["content-type"]),
            (&json!("c-9"), &HeaderValue::from_static("application/problem+json"))
        );
    }
}

#[tokio::test]
async fn bad_requests_never_reach_the_intake() {
    let large = vec![b' '; 2 << 20];
    let cases: [(Vec<u8>, u16); 5] = [
        (b"not json".to_vec(), 400),
        (br#"{"item":"soup","quantity":-2}"#.to_vec(), 422),
        (br#"{"item":"soup","payment_token":"tok_ok"}"#.to_vec(), 422),
        (b"{}".to_vec(), 422),
        (large, 413),
    ];
    for (body, expected) in cases {
        let (app, mut jobs) = trial(false);
        let (status, headers, body) = send(app, post_order(body)).await;
        assert_eq!((status.as_u16(), &body["status"]), (expected, &json!(expected)), "{body}");
        assert_eq!(headers["content-type"], "application/problem+json");
        assert!(jobs.try_recv().is_err());
    }
}

#[tokio::test]
async fn what_cannot_be_asked_for_is_said_to_be_so() {
    for (path, expected) in [
        ("/orders/nonsense", 404),
        ("/orders?status=LOST", 422),
        ("/orders?limit=0", 422),
        ("/orders?limit=501", 422),
        ("/orders?after=x", 400),
        ("/orders?state=PENDING", 400),
        ("/nowhere", 404),
    ] {
        let (app, _jobs) = trial(false);
        let (status, _, body) = send(app, get_path(path)).await;
        assert_eq!(status.as_u16(), expected, "{path}: {body}");
    }
}

#[tokio::test]
async fn what_is_wrong_with_a_query_is_told_by_the_name_of_its_parameter() {
    for (query, field) in [
        ("after=zzz", "after"),
        ("after=", "after"),
        ("limit=many", "limit"),
        ("limit=1&limit=2", "limit"),
        ("page=3", "page"),
    ] {
        let (app, _jobs) = trial(false);
        let (status, headers, body) = send(app, get_path(&format!("/orders?{query}"))).await;
        assert_eq!(
            (status.as_u16(), headers["content-type"].as_bytes()),
            (400, &b"application/problem+json"[..]),
            "{body}"
        );
        assert_eq!(body["errors"][0]["field"], field, "{query}: {body}");
        let said = body["detail"].as_str().expect("a text");
        for word in ["UUID", "deserialize", "invalid", "zzz", "many", "i64"] {
            assert!(!said.contains(word), "{query}: {said}");
        }
        assert!(body["correlation_id"].is_string(), "{body}");
    }
}

#[tokio::test]
async fn a_database_that_is_gone_is_a_503() {
    for path in ["/orders", "/orders/00000000-0000-0000-0000-000000000001"] {
        let (app, _jobs) = trial(false);
        let (status, headers, _) = send(app, get_path(path)).await;
        assert_eq!((status.as_u16(), headers.contains_key("retry-after")), (503, true), "{path}");
    }
}

#[tokio::test]
async fn what_is_too_dear_for_the_provider_is_refused_where_it_is_ordered() {
    for (body, field) in [
        (r#"{"item":"soup","amount_cents":1000001}"#, "amount_cents"),
        (r#"{"item":"soup","quantity":1000}"#, "quantity"),
    ] {
        let (app, _jobs) = trial(false);
        let (status, _, problem) = send(app, post_order(body)).await;
        assert_eq!(
            (status, &problem["errors"][0]["field"]),
            (StatusCode::UNPROCESSABLE_ENTITY, &json!(field))
        );
        assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains("1000000")), "{problem}");
    }
}

fn cancel_of(id: &str, body: &'static str) -> axum::http::Request<RequestBody> {
    axum::http::Request::post(format!("/orders/{id}/cancel")).body(body.into()).expect("valid")
}

#[tokio::test]
async fn a_cancel_that_does_not_succeed_says_why() {
    use closing::Refusal::{NoOrder, TooLate, Unavailable, Unknown};
    let id = Uuid::from_u128(7);
    for (refusal, expected, code, retry) in [
        (NoOrder, 404, "no-order", false),
        (TooLate(crate::domain::TooLate), 409, "order-completed", false),
        (Unavailable("too many cancels are waiting"), 503, "unavailable", true),
        (Unknown, 500, "outcome-unknown", false),
    ] {
        let (app, _jobs, mut cancels) = whole(false);
        let answer = refusal.clone();
        let closing = tokio::spawn(async move {
            let job = cancels.recv().await.expect("a job");
            job.reply.send(Err(answer)).expect("somebody waits");
            job.order_id
        });
        let (status, headers, problem) = send(app, cancel_of(&id.to_string(), "")).await;
        assert_eq!(closing.await.expect("no panic"), id);
        assert_eq!((status.as_u16(), headers.contains_key("retry-after")), (expected, retry), "{problem}");
        assert_eq!(problem["detail"], refusal.to_string());
        assert_eq!(
            (&problem["code"], &problem["type"]),
            (&json!(code), &json!(format!("urn:backburner:problem:{code}")))
        );
    }
}

#[tokio::test]
async fn a_cancel_has_no_fields_and_is_of_an_order() {
    for (id, body, expected) in [
        ("00000000-0000-0000-0000-000000000007", "{\"reason\":\"late\"}", 422),
        ("00000000-0000-0000-0000-000000000007", "why", 422),
        ("not-an-id", "", 404),
        ("%FF", "", 404),
    ] {
        let (app, _jobs, mut cancels) = whole(false);
        let (status, ..) = send(app, cancel_of(id, body)).await;
        assert_eq!(status.as_u16(), expected);
        assert!(cancels.try_recv().is_err(), "nobody is asked");
    }
}
