//! The span of a request.

use std::time::SystemTime;

use actors::trace::{self, Kind, Recorder, Span, TraceParent};
use axum::{extract::Request, http::StatusCode};
use uuid::Uuid;

use crate::correlation::{Correlation, TRACEPARENT};

/// A request that is being answered. Told when it is dropped: a caller that goes away is told of too.
pub(crate) struct ServerSpan {
    recorder: &'static dyn Recorder,
    span: Option<Span>,
}

impl ServerSpan {
    /// Makes the request's span what all that it sets off has for its parent. `None` where nobody is told of it.
    pub(crate) fn begin(request: &mut Request, route: &str) -> Option<Self> {
        let recorder = trace::recorder()?;
        let correlation = request.extensions_mut().get_mut::<Correlation>()?;
        let own = TraceParent::parse(&correlation.traceparent)?;
        let (method, id) = (request.method().as_str().to_owned(), correlation_id(request));
        let given =
            request.headers().get(TRACEPARENT).and_then(|value| TraceParent::parse(value.to_str().ok()?));
        // One that the caller did not give was made for it: then it is the first of its trace.
        let context = match given {
            Some(parent) => parent.at(Uuid::new_v4().as_u64_pair().0),
            None => own,
        };
        let context = context.sampled(recorder.samples(context.trace_id, given));
        if let Some(correlation) = request.extensions_mut().get_mut::<Correlation>() {
            correlation.traceparent = context.to_string();
        }
        let span = Span {
            name: format!("{method} {route}"),
            kind: Kind::Server,
            context,
            parent: given.map(|parent| parent.span_id),
            links: Vec::new(),
            started: SystemTime::now(),
            ended: SystemTime::UNIX_EPOCH,
            attributes: vec![
                ("http.request.method", method.into()),
                ("http.route", route.to_owned().into()),
                ("backburner.correlation_id", id.into()),
            ],
            error: None,
        };
        context.is_sampled().then(|| Self { recorder, span: Some(span) })
    }

    /// The request is answered: its head is.
    pub(crate) fn answered(mut self, status: StatusCode) {
        if let Some(mut span) = self.span.take() {
            span.attributes.push(("http.response.status_code", i64::from(status.as_u16()).into()));
            self.tell(span, status.is_server_error().then(|| status.as_str().to_owned()));
        }
    }

    fn tell(&self, mut span: Span, error: Option<String>) {
        span.ended = SystemTime::now();
        span.attributes.extend(error.clone().map(|error| ("error.type", error.into())));
        span.error = error;
        self.recorder.record(span);
    }
}

impl Drop for ServerSpan {
    fn drop(&mut self) {
        if let Some(span) = self.span.take() {
            self.tell(span, Some("unanswered".to_owned()));
        }
    }
}

fn correlation_id(request: &Request) -> String {
    request.extensions().get::<Correlation>().map(|correlation| correlation.id.clone()).unwrap_or_default()
}
