//! Spans in OpenTelemetry's words.

use actors::trace::{Kind, Span, Value};
use opentelemetry::{
    InstrumentationScope, KeyValue,
    trace::{Link, SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState},
};
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanLinks};

pub(super) fn convert(span: Span, scope: &InstrumentationScope) -> SpanData {
    let trace_id = TraceId::from(span.context.trace_id);
    let flags = TraceFlags::new(span.context.flags);
    let context =
        |id: u64, remote| SpanContext::new(trace_id, SpanId::from(id), flags, remote, TraceState::NONE);
    let mut links = SpanLinks::default();
    links.links.extend(span.links.iter().map(|id| Link::with_context(context(*id, true))));
    let attribute = |(name, value): (&'static str, Value)| match value {
        Value::Text(text) => KeyValue::new(name, text),
        Value::Number(number) => KeyValue::new(name, number),
    };
    SpanData {
        span_context: context(span.context.span_id, false),
        parent_span_id: span.parent.map_or(SpanId::INVALID, SpanId::from),
        // That of what is sent is the one that handled its cause, or the request: of this process.
        parent_span_is_remote: matches!(span.kind, Kind::Consumer | Kind::Server),
        span_kind: match span.kind {
            Kind::Internal => SpanKind::Internal,
            Kind::Server => SpanKind::Server,
            Kind::Producer => SpanKind::Producer,
            Kind::Consumer => SpanKind::Consumer,
        },
        name: span.name.into(),
        start_time: span.started,
        // A clock that was set back makes no span that ends before it began.
        end_time: span.ended.max(span.started),
        attributes: span.attributes.into_iter().map(attribute).collect(),
        dropped_attributes_count: 0,
        events: SpanEvents::default(),
        links,
        status: span.error.map_or(Status::Unset, Status::error),
        instrumentation_scope: scope.clone(),
    }
}
