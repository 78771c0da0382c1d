//! A collector in this process: it takes spans by OTLP over HTTP, in protobuf, and keeps them.

use std::{
    net::TcpListener,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use anyhow::Result;
use axum::{Router, body::Bytes, http::StatusCode, routing::post};
use opentelemetry_proto::tonic::{
    collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse},
    common::v1::{AnyValue, KeyValue, any_value},
    trace::v1::{Span, span::SpanKind, status::StatusCode as SpanStatus},
};
use prost::Message;

/// A span as it came.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) trace: String,
    pub(crate) id: String,
    pub(crate) parent: Option<String>,
    pub(crate) links: Vec<String>,
    pub(crate) name: String,
    pub(crate) kind: &'static str,
    pub(crate) service: String,
    pub(crate) failed: bool,
    pub(crate) attributes: Vec<(String, String)>,
}

impl Seen {
    pub(crate) fn has(&self, name: &str, value: &str) -> bool {
        self.attributes.iter().any(|(known, said)| known == name && said == value)
    }

    /// Whether it is of this operation.
    pub(crate) fn is(&self, operation: &str) -> bool {
        self.has("messaging.operation.name", operation)
    }
}

/// Where spans are posted to.
pub(crate) struct Receiver {
    url: String,
    kept: Arc<Mutex<Vec<Seen>>>,
    refuses: Arc<AtomicBool>,
}

impl Receiver {
    pub(crate) fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        listener.set_nonblocking(true)?;
        let url = format!("http://{}", listener.local_addr()?);
        let (kept, refuses) = (Arc::<Mutex<Vec<Seen>>>::default(), Arc::<AtomicBool>::default());
        let (keep, refusing) = (kept.clone(), refuses.clone());
        let take = post(async move |body: Bytes| {
            if refusing.load(Ordering::Relaxed) {
                return (StatusCode::BAD_REQUEST, Vec::new());
            }
            match ExportTraceServiceRequest::decode(body) {
                Ok(request) => keep.lock().expect("nobody panics with it").extend(seen(request)),
                Err(_) => return (StatusCode::BAD_REQUEST, Vec::new()),
            }
            (StatusCode::OK, ExportTraceServiceResponse::default().encode_to_vec())
        });
        let app = Router::new().route("/v1/traces", take);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        thread::Builder::new().name("receiver".into()).spawn(move || {
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
                axum::serve(listener, app).await
            })
        })?;
        Ok(Self { url, kept, refuses })
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Takes nothing until this is dropped.
    pub(crate) fn refuse(&self) -> Refusing<'_> {
        self.refuses.store(true, Ordering::Relaxed);
        Refusing(&self.refuses)
    }

    /// The spans of a trace.
    pub(crate) fn trace(&self, trace: &str) -> Vec<Seen> {
        let kept = self.kept.lock().expect("nobody panics with it");
        kept.iter().filter(|span| span.trace == trace).cloned().collect()
    }

    /// A trace with a span that has this attribute.
    pub(crate) fn trace_with(&self, name: &str, value: &str) -> Option<String> {
        let kept = self.kept.lock().expect("nobody panics with it");
        kept.iter().find(|span| span.has(name, value)).map(|span| span.trace.clone())
    }
}

/// Takes nothing for as long as this lives, so that a test that fails leaves the next one a receiver.
pub(crate) struct Refusing<'a>(&'a AtomicBool);

impl Drop for Refusing<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

fn seen(request: ExportTraceServiceRequest) -> Vec<Seen> {
    let mut all = Vec::new();
    for of_service in request.resource_spans {
        let resource = texts(of_service.resource.unwrap_or_default().attributes);
        let service = resource.into_iter().find(|(name, _)| name == "service.name").map(|(_, value)| value);
        let service = service.unwrap_or_default();
        let spans = of_service.scope_spans.into_iter().flat_map(|scope| scope.spans);
        all.extend(spans.map(|span| one(span, service.clone()).expect("ids of the right length")));
    }
    all
}

fn one(span: Span, service: String) -> Result<Seen> {
    let hex = |id: &[u8]| id.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    anyhow::ensure!(span.trace_id.len() == 16 && span.span_id.len() == 8, "ids of another length");
    anyhow::ensure!(span.end_time_unix_nano >= span.start_time_unix_nano, "it ends before it begins");
    anyhow::ensure!(span.links.iter().all(|link| link.trace_id == span.trace_id), "a link leaves the trace");
    let failed = span.status.as_ref().is_some_and(|status| status.code() == SpanStatus::Error);
    Ok(Seen {
        trace: hex(&span.trace_id),
        id: hex(&span.span_id),
        parent: Some(hex(&span.parent_span_id)).filter(|id| !id.is_empty()),
        links: span.links.iter().map(|link| hex(&link.span_id)).collect(),
        kind: match span.kind() {
            SpanKind::Server => "server",
            SpanKind::Producer => "producer",
            SpanKind::Consumer => "consumer",
            SpanKind::Internal | SpanKind::Client | SpanKind::Unspecified => "other",
        },
        name: span.name,
        service,
        failed,
        attributes: texts(span.attributes),
    })
}

fn texts(attributes: Vec<KeyValue>) -> Vec<(String, String)> {
    let text = |value: Option<AnyValue>| match value.and_then(|value| value.value) {
        Some(any_value::Value::StringValue(text)) => text,
        Some(any_value::Value::IntValue(number)) => number.to_string(),
        other => format!("{other:?}"),
    };
    attributes.into_iter().map(|one| (one.key, text(one.value))).collect()
}
