use axum::{body::Body as RequestBody, extract::Request, routing::post};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
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

/// What a peer gets that sends this before it reads anything, until the server closes.
async fn answers(requests: &[Vec<u8>]) -> String {
    let (_trigger, listener) = crate::shutdown::trigger();
    let limits = Limits { head: std::time::Duration::from_millis(300), ..Limits::default() };
    let server =
        Server::start(([127, 0, 0, 1], 0).into(), app(), limits, listener).await.expect("a free port");
    let mut stream = tokio::net::TcpStream::connect(server.address).await.expect("it listens");
    for request in requests {
        stream.write_all(request).await.expect("it is taken");
    }
    let mut answers = String::new();
    stream.read_to_string(&mut answers).await.expect("it is answered");
    answers
}

fn request(head: &str, more: &str, body: usize) -> Vec<u8> {
    let mut bytes =
        format!("{head} HTTP/1.1\r\nhost: x\r\n{more}content-length: {body}\r\n\r\n").into_bytes();
    bytes.resize(bytes.len() + body, b'x');
    bytes
}

#[tokio::test]
async fn a_peer_that_sends_more_than_is_wanted_gets_its_answer_and_may_go_on() {
    for (head, more, status) in [
        ("POST /echo", "", "413"),
        ("POST /nowhere", "", "404"),
        ("GET /echo", "", "405"),
        ("POST /nowhere", "expect: nothing\r\n", "404"),
    ] {
        let answers = answers(&[request(head, more, 2 << 20), request("POST /echo", "", 3)]).await;
        assert!(answers.starts_with(&format!("HTTP/1.1 {status} ")), "{head}: {answers}");
        assert!(answers.contains("HTTP/1.1 200 OK") && answers.ends_with("xxx"), "{head}: {answers}");
    }
}

#[tokio::test]
async fn a_peer_that_asks_before_it_sends_is_not_waited_for() {
    let head = "POST /nowhere HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 2097152\r\n\r\n";
    let answers = tokio::time::timeout(std::time::Duration::from_secs(5), answers(&[head.into()])).await;
    let answers = answers.expect("closed before the body's time is over");
    assert!(answers.starts_with("HTTP/1.1 404 "), "{answers}");
}
