use axum::{Router, body::Body, middleware, routing::get};
use http_body_util::BodyExt;
use tower::ServiceExt;

use super::*;

const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

fn headers(id: &str, parent: &str) -> HeaderMap {
    let value = |text| HeaderValue::from_str(text).expect("a header value");
    HeaderMap::from_iter([(CORRELATION_ID, value(id)), (TRACEPARENT, value(parent))])
}

#[test]
fn what_is_sound_is_kept() {
    let longest = "x".repeat(128);
    for id in ["a", "order/42:x", longest.as_str()] {
        let correlation = Correlation::of(&headers(id, PARENT));
        assert_eq!((correlation.id.as_str(), correlation.traceparent.as_str()), (id, PARENT));
    }
}

#[test]
fn what_is_not_is_made() {
    let long = "x".repeat(129);
    for id in ["", "two words", long.as_str()] {
        let made = Correlation::of(&headers(id, "00-0-0-0")).id;
        assert!(Uuid::parse_str(&made).is_ok(), "{id:?} gave {made}");
    }
    let zero = "00-00000000000000000000000000000000-00f067aa0ba902b7-01";
    for parent in ["", "nonsense", zero, &PARENT.to_uppercase(), &PARENT.replace("00-", "01-")] {
        let made = Correlation::of(&headers("a", parent)).traceparent;
        assert_ne!(made, parent);
        assert!(is_traceparent(&made), "{made}");
    }
}

#[tokio::test]
async fn responses_and_problems_carry_the_id() {
    let app = Router::new()
        .route("/gone", get(async || Problem::new(axum::http::StatusCode::GONE, "was here")))
        .layer(middleware::from_fn(layer));
    let request = Request::get("/gone").header(CORRELATION_ID, "c-7").body(Body::empty()).expect("valid");
    let response = app.oneshot(request).await.expect("infallible");
    assert_eq!(response.status(), 410);
    assert_eq!(response.headers()[CORRELATION_ID], "c-7");
    let body = response.into_body().collect().await.expect("a body").to_bytes();
    let body: serde_json::Value = serde_json::from_slice(&body).expect("JSON");
    assert_eq!(body["correlation_id"], "c-7");
}
