use axum::{body::Body as RequestBody, extract::Request, routing::post};
use tower::ServiceExt;

use super::*;

fn app() -> Router {
    dress(Router::new().route("/echo", post(async |Body(bytes): Body| bytes)))
}

async fn status(method: &str, path: &str, body: Vec<u8>) -> (u16, String) {
    let request = Request::builder().method(method).uri(path).body(RequestBody::from(body)).expect("valid");
    let response = app().oneshot(request).await.expect("infallible");
    let kind = response.headers().get("content-type").map(|v| v.to_str().expect("ASCII").to_owned());
    (response.status().as_u16(), kind.unwrap_or_default())
}

#[tokio::test]
async fn what_is_wrong_with_a_request_is_a_problem() {
    let kind = problem::CONTENT_TYPE.to_owned();
    assert_eq!(status("POST", "/echo", vec![b'x'; BODY_LIMIT]).await.0, 200);
    assert_eq!(status("POST", "/echo", vec![b'x'; BODY_LIMIT + 1]).await, (413, kind.clone()));
    assert_eq!(status("GET", "/echo", Vec::new()).await, (405, kind.clone()));
    assert_eq!(status("GET", "/nowhere", Vec::new()).await, (404, kind));
}

#[tokio::test]
async fn requests_are_counted_by_route_not_by_path() {
    let handle = crate::telemetry::metrics();
    let app = measured(Router::new().route("/things/{id}", axum::routing::get(async || "ok")));
    let request = Request::get("/things/42").body(RequestBody::empty()).expect("valid");
    app.oneshot(request).await.expect("infallible");
    let text = handle.render();
    let line = r#"backburner_http_requests_total{method="GET",route="/things/{id}",status="200"} 1"#;
    assert!(text.contains(line), "{text}");
}

#[tokio::test]
async fn a_server_says_its_port_and_stops() {
    let (trigger, listener) = crate::shutdown::trigger();
    let server = Server::start(([127, 0, 0, 1], 0).into(), app(), Limits::default(), listener);
    let server = server.await.expect("a free port");
    assert_ne!(server.address.port(), 0);
    trigger.fire();
    assert!(server.stopped(std::time::Duration::from_secs(5)).await);
}
