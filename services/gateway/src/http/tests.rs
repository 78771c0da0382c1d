use std::{net::SocketAddr, sync::Arc};

use axum::{body::Body as RequestBody, http::Request, response::IntoResponse};
use chassis::{
    http::{Limits, Server},
    shutdown::trigger,
};
use clap::Parser;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tokio::sync::Notify;
use tower::ServiceExt;

use super::*;
use crate::Settings;

fn edge(orders: SocketAddr, more: &[&str]) -> Router {
    let url = format!("http://{orders}");
    let args = ["gateway", "--orders-url", &url, "--connect-timeout-ms", "500"];
    let settings = Settings::try_parse_from(args.iter().chain(more)).expect("sound settings");
    let auth = Auth::new(&settings.auth).expect("sound settings");
    let upstream = Upstream::new(&settings).expect("sound settings");
    let (_, stop) = trigger();
    app(Edge::of(&settings, upstream, auth, stop))
}

/// Somebody in the place of orders, for as long as the trigger lives.
async fn fake(routes: Router) -> (SocketAddr, chassis::shutdown::Trigger) {
    let (stop, listener) = trigger();
    let server = Server::start(([127, 0, 0, 1], 0).into(), routes, Limits::default(), listener)
        .await
        .expect("a free port");
    (server.address, stop)
}

async fn send(app: Router, request: Request<RequestBody>) -> (u16, HeaderMap, Value) {
    let response = app.oneshot(request).await.expect("infallible");
    let (parts, body) = response.into_parts();
    let body = body.collect().await.expect("a body").to_bytes();
    (parts.status.as_u16(), parts.headers, serde_json::from_slice(&body).expect("JSON"))
}

fn place_order(body: impl Into<RequestBody>) -> Request<RequestBody> {
    Request::post("/place-order").header("x-correlation-id", "c-3").body(body.into()).expect("valid")
}

#[tokio::test]
async fn an_order_goes_up_and_the_answer_comes_down() {
    let orders = Router::new().route(
        "/orders",
        post(async |headers: HeaderMap, body: String| {
            let id = headers["x-correlation-id"].to_str().expect("ASCII").to_owned();
            assert!(headers.contains_key("traceparent"));
            let answer = axum::Json(json!({"correlation": id, "body": body}));
            (StatusCode::ACCEPTED, [("location", "/orders/1"), ("x-internal", "secret")], answer)
                .into_response()
        }),
    );
    let (address, _stop) = fake(orders).await;
    let (status, headers, body) = send(edge(address, &[]), place_order("{\"item\":\"soup\"}")).await;
    assert_eq!((status, body), (202, json!({"correlation": "c-3", "body": "{\"item\":\"soup\"}"})));
    assert_eq!(
        (&headers["location"], &headers["x-correlation-id"]),
        (&"/orders/1".parse().expect("valid"), &"c-3".parse().expect("valid"))
    );
    assert!(!headers.contains_key("x-internal"), "only what is meant for the caller");
}

#[tokio::test]
async fn questions_and_problems_pass_unchanged() {
    let orders = Router::new().route(
        "/orders",
        get(async |uri: Uri| Problem::invalid("status", uri.query().unwrap_or_default().to_owned())),
    );
    let (address, _stop) = fake(orders).await;
    let request = Request::get("/orders?status=X&limit=3").body(RequestBody::empty()).expect("valid");
    let (status, headers, body) = send(edge(address, &[]), request).await;
    assert_eq!((status, &body["errors"][0]["reason"]), (422, &json!("status=X&limit=3")));
    assert_eq!(headers["content-type"], "application/problem+json");
}

#[tokio::test]
async fn a_body_that_is_too_large_never_leaves() {
    let (address, _stop) = fake(Router::new()).await;
    let (status, headers, body) = send(edge(address, &[]), place_order(vec![b'x'; 2 << 20])).await;
    assert_eq!((status, &body["correlation_id"]), (413, &json!("c-3")));
    assert_eq!(headers["content-type"], "application/problem+json");
}

#[tokio::test]
async fn orders_that_cannot_be_reached_are_a_503() {
    let (address, stop) = fake(Router::new()).await;
    // Port 1 of the loopback: nobody listens there.
    drop(stop);
    let nowhere = SocketAddr::new(address.ip(), 1);
    let (status, headers, body) = send(edge(nowhere, &[]), place_order("")).await;
    assert_eq!((status, &headers["retry-after"]), (503, &HeaderValue::from_static("1")), "{body}");
    assert!(body["detail"].as_str().is_some_and(|detail| detail.contains("nothing was done")), "{body}");
}

#[tokio::test]
async fn orders_that_do_not_answer_are_a_504_that_promises_nothing() {
    let orders = Router::new().route("/orders", post(std::future::pending::<&'static str>));
    let (address, _stop) = fake(orders).await;
    let (status, headers, body) =
        send(edge(address, &["--response-timeout-ms", "50"]), place_order("")).await;
    assert_eq!((status, headers.contains_key("retry-after")), (504, false));
    assert!(body["detail"].as_str().is_some_and(|detail| detail.contains("not known")), "{body}");
}

/// Which need not be the client's own: it is told what it was.
#[tokio::test]
async fn a_request_whose_outcome_is_not_known_can_be_sent_again_by_its_key() {
    let keys = Arc::new(std::sync::Mutex::new(Vec::new()));
    let seen = keys.clone();
    let orders = Router::new().route(
        "/orders",
        post(async move |headers: HeaderMap| {
            let key = |value: &HeaderValue| value.to_str().expect("ASCII").to_owned();
            let given: Vec<_> = headers.get_all("idempotency-key").iter().map(key).collect();
            seen.lock().expect("not poisoned").push(given);
            std::future::pending::<&'static str>().await
        }),
    );
    let (address, _stop) = fake(orders).await;
    let app = edge(address, &["--response-timeout-ms", "1500"]);
    let (status, headers, body) = send(app.clone(), place_order("")).await;
    let mut own = place_order("");
    own.headers_mut().insert("idempotency-key", HeaderValue::from_static("mine"));
    let (_, _, with_own) = send(app.clone(), own).await;
    let mut twice = place_order("");
    for key in ["one", "two"] {
        twice.headers_mut().append("idempotency-key", HeaderValue::from_static(key));
    }
    send(app, twice).await;
    let keys = keys.lock().expect("not poisoned").clone();
    let [made, mine, both] = &keys[..] else { panic!("{keys:?}") };
    assert_eq!(
        (status, made.len(), mine, both),
        (504, 1, &vec!["mine".into()], &vec!["one".into(), "two".into()])
    );
    assert_eq!(headers["idempotency-key"], made[0].as_str(), "in the answer too, whatever it is");
    for (body, key) in [(body, &made[0]), (with_own, &mine[0])] {
        let said = body["detail"].as_str().expect("a text");
        assert!(said.contains(&format!("`Idempotency-Key: {key}`")), "{said}");
    }
}

#[tokio::test]
async fn a_cancel_goes_up_and_one_without_an_answer_promises_nothing() {
    let routes = Router::new().route(
        "/orders/{id}/cancel",
        post(async |axum::extract::Path(id): axum::extract::Path<String>, body: String| {
            (StatusCode::CONFLICT, format!("{{\"seen\":\"{id} {body}\"}}"))
        }),
    );
    let (orders, _stop) = fake(routes).await;
    let cancel = || Request::post("/orders/o-1/cancel").body(RequestBody::from("{}")).expect("valid");
    let (status, _, body) = send(edge(orders, &[]), cancel()).await;
    assert_eq!((status, &body["seen"]), (409, &json!("o-1 {}")));

    let routes = Router::new().route("/orders/{id}/cancel", post(std::future::pending::<&str>));
    let (orders, _stop) = fake(routes).await;
    let (status, headers, body) = send(edge(orders, &["--response-timeout-ms", "50"]), cancel()).await;
    assert_eq!((status, headers.contains_key("retry-after")), (504, false));
    assert!(body["detail"].as_str().is_some_and(|said| said.contains("cancelled once")), "{body}");
}

#[tokio::test]
async fn more_than_it_can_hold_is_shed() {
    let (arrived, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (here, there) = (arrived.clone(), go_on.clone());
    let orders = Router::new().route(
        "/orders",
        post(async move || {
            here.notify_one();
            there.notified().await;
            axum::Json(json!({}))
        }),
    );
    let (address, _stop) = fake(orders).await;
    let app = edge(address, &["--max-in-flight", "1"]);
    let first = tokio::spawn(send(app.clone(), place_order("")));
    arrived.notified().await;
    let (status, headers, _) = send(app.clone(), place_order("")).await;
    assert_eq!((status, headers.contains_key("retry-after")), (503, true));
    go_on.notify_one();
    assert_eq!(first.await.expect("no panic").0, 200);
    go_on.notify_one();
    assert_eq!(send(app, place_order("")).await.0, 200, "the place is free again");
}

/// Somebody in the place of orders who answers with this and then says nothing.
async fn half_an_answer(said: &'static str) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move {
        let mut open = Vec::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            let asked = tokio::io::AsyncReadExt::read(&mut stream, &mut [0; 4096]).await.expect("readable");
            assert_ne!(asked, 0);
            tokio::io::AsyncWriteExt::write_all(&mut stream, said.as_bytes()).await.expect("written");
            open.push(stream);
        }
    });
    address
}

#[tokio::test]
async fn an_answer_that_stops_is_cut_off_and_its_place_is_free() {
    let address = half_an_answer("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n12345").await;
    let app = edge(address, &["--max-in-flight", "1", "--response-timeout-ms", "200"]);
    let request = || Request::get("/orders").body(RequestBody::empty()).expect("valid");
    let first = app.clone().oneshot(request()).await.expect("infallible");
    assert_eq!(first.status(), 200);
    let shed = app.clone().oneshot(request()).await.expect("infallible");
    assert_eq!(shed.status(), 503, "the place is taken until the answer has been passed on");
    assert!(first.into_body().collect().await.is_err(), "it is cut off");
    assert_eq!(app.oneshot(request()).await.expect("infallible").status(), 200);
}

#[tokio::test]
async fn a_place_is_taken_before_the_body_is_read() {
    let (address, _stop) = fake(Router::new().route("/orders", post(async || axum::Json(json!({}))))).await;
    let app = edge(address, &["--max-in-flight", "1"]);
    let never = RequestBody::from_stream(futures_util::stream::pending::<Result<Bytes, std::io::Error>>());
    let slow = tokio::spawn(send(app.clone(), place_order(never)));
    // It takes its place when it is first polled.
    tokio::task::yield_now().await;
    let (status, ..) = send(app.clone(), place_order("")).await;
    assert_eq!(status, 503);
    slow.abort();
    assert!(slow.await.expect_err("given up").is_cancelled());
    assert_eq!(send(app, place_order("")).await.0, 200);
}

#[tokio::test]
async fn every_request_is_one_line_under_its_correlation_id() {
    let (address, _stop) =
        fake(Router::new().route("/orders/{id}", get(async || axum::Json(json!({}))))).await;
    let written = Arc::new(std::sync::Mutex::new(Vec::new()));
    let to = written.clone();
    let lines = tracing_subscriber::fmt().with_ansi(false).with_writer(move || Written(to.clone()));
    // Where there is but one, a place in the code that another test's thread comes by first is taken for one that nobody listens to.
    let _another = tracing::Dispatch::new(tracing_subscriber::registry());
    let listening = tracing::subscriber::set_default(lines.finish());
    let get = |path: &str| {
        Request::get(path).header("x-correlation-id", "c-5").body(RequestBody::empty()).expect("valid")
    };
    send(edge(address, &[]), get("/orders/secret?token=secret")).await;
    send(edge(address, &[]), get("/secret")).await;
    drop(listening);
    let text = String::from_utf8(written.lock().expect("not poisoned").clone()).expect("UTF-8");
    let lines: Vec<_> = text.lines().filter(|line| line.contains("answered")).collect();
    let [order, nothing] = lines[..] else { panic!("{text}") };
    for said in ["method=\"GET\"", "route=\"/orders/{id}\"", "status=200", "ms=", "correlation_id=\"c-5\""] {
        assert!(order.contains(said), "{said}: {order}");
    }
    assert!(nothing.contains("route=\"none\" status=404") && !text.contains("secret"), "{text}");
}

/// Takes lines of the log.
struct Written(Arc<std::sync::Mutex<Vec<u8>>>);

impl std::io::Write for Written {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("not poisoned").extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
