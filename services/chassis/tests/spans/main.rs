//! The spans of requests, as a recorder is told of them.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use actors::trace::{self, Kind, Recorder, Span, TraceParent, Value};
use axum::{
    Router,
    body::Body,
    http::{Request, StatusCode},
    routing::{get, post},
};
use chassis::{
    Correlation,
    http::{dress, measured},
    traces,
};
use futures_util::FutureExt;
use http_body_util::BodyExt;
use tower::ServiceExt;

static TOLD: Mutex<Vec<Span>> = Mutex::new(Vec::new());

/// As `parentbased_always_on`.
struct Keep;

impl Recorder for Keep {
    fn samples(&self, _: u128, parent: Option<TraceParent>) -> bool {
        parent.is_none_or(TraceParent::is_sampled)
    }

    fn record(&self, span: Span) {
        told().push(span);
    }
}

fn told() -> MutexGuard<'static, Vec<Span>> {
    TOLD.lock().unwrap_or_else(PoisonError::into_inner)
}

fn app() -> Router {
    let router = Router::new()
        .route("/things/{id}", get(async |correlation: Correlation| correlation.traceparent))
        .route("/broken", post(async || StatusCode::BAD_GATEWAY))
        .route("/slow", get(async || std::future::pending::<()>().await));
    dress(measured(router))
}

fn request(method: &str, path: &str, parent: Option<&str>) -> Request<Body> {
    let request = Request::builder().method(method).uri(path).header("x-correlation-id", "c-7");
    let request = parent.into_iter().fold(request, |request, parent| request.header("traceparent", parent));
    request.body(Body::empty()).expect("valid")
}

/// What a request's handler passes on, and what was told of it.
async fn asked(method: &str, path: &str, parent: Option<&str>) -> (Option<TraceParent>, Option<Span>) {
    let answer = app().oneshot(request(method, path, parent)).await.expect("infallible");
    let body = answer.into_body().collect().await.expect("a body").to_bytes();
    let mut told = told();
    assert!(told.len() < 2, "{told:?}");
    (std::str::from_utf8(&body).ok().and_then(TraceParent::parse), told.pop())
}

fn of(span: &Span, name: &str) -> Option<Value> {
    span.attributes.iter().find(|(known, _)| *known == name).map(|(_, value)| value.clone())
}

const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

/// One test: who is told is told of the whole process.
#[tokio::test]
async fn a_request_has_a_span_where_somebody_is_told_of_it() {
    let (passed, span) = asked("GET", "/things/4", Some(PARENT)).await;
    assert_eq!(passed.map(|passed| passed.to_string()).as_deref(), Some(PARENT), "nobody is told");
    assert!(span.is_none());

    trace::install(Box::new(Keep)).expect("the first");
    assert!(trace::install(Box::new(Keep)).is_err(), "there is one");

    let (passed, span) = asked("GET", "/things/4", None).await;
    let (passed, span) = (passed.expect("a trace"), span.expect("told"));
    assert_eq!((span.context, span.parent), (passed, None), "the first of a trace that was made");
    assert_eq!((span.name.as_str(), span.kind), ("GET /things/{id}", Kind::Server));
    assert_eq!(of(&span, "http.route"), Some("/things/{id}".into()));
    assert_eq!(of(&span, "http.response.status_code"), Some(200.into()));
    assert_eq!(of(&span, "backburner.correlation_id"), Some("c-7".to_owned().into()));
    assert!(span.error.is_none() && span.ended >= span.started);

    let given = TraceParent::parse(PARENT).expect("valid");
    let (passed, span) = asked("GET", "/things/4", Some(PARENT)).await;
    let span = span.expect("told");
    assert_eq!((Some(span.context), span.parent), (passed, Some(given.span_id)));
    assert!(span.context.trace_id == given.trace_id && span.context.span_id != given.span_id);

    let (passed, span) = asked("GET", "/things/4", Some(&given.sampled(false).to_string())).await;
    let passed = passed.expect("a trace");
    assert!(span.is_none() && passed.trace_id == given.trace_id && !passed.is_sampled());

    for malformed in ["", "00-0-0-01", "nonsense"] {
        let (passed, span) = asked("GET", "/things/4", Some(malformed)).await;
        let span = span.expect("told");
        assert_eq!((Some(span.context), span.parent), (passed, None), "{malformed:?}");
    }

    let (_, span) = asked("POST", "/broken", Some(PARENT)).await;
    let span = span.expect("told");
    assert_eq!(
        (span.error.as_deref(), of(&span, "error.type")),
        (Some("502"), Some("502".to_owned().into()))
    );
    assert!(asked("GET", "/nowhere", Some(PARENT)).await.1.is_none(), "what has no route has no span");

    let mut gone = Box::pin(app().oneshot(request("GET", "/slow", None)));
    assert!((&mut gone).now_or_never().is_none());
    drop(gone);
    let span = told().pop().expect("told");
    assert_eq!((span.error.as_deref(), of(&span, "http.response.status_code")), (Some("unanswered"), None));

    let by = Correlation::of_id("c-8".to_owned());
    traces::began("end overdue order", &by, SystemTime::now());
    let span = told().pop().expect("told");
    assert_eq!((span.context.to_string(), span.parent, span.kind), (by.traceparent, None, Kind::Internal));
}
