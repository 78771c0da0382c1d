//! One flat JSON object a line: what log stores index best.
//!
//! The fields of the spans around an event stand beside its own, so that a search for an `event_id` or a
//! `correlation_id` finds every line that has to do with it. The innermost wins where a name repeats. Fields and lines are bounded.

use std::{
    fmt,
    io::{self, Write},
};

use chrono::{SecondsFormat, Utc};
use serde::Serialize;
use serde_json::{Map, Value, ser::Formatter};
use tracing::{
    Event, Subscriber,
    field::{Field, Visit},
    span::{Attributes, Id, Record},
};
use tracing_subscriber::{layer::Context, registry::LookupSpan};

use super::text::{self, MAX_LINE};

/// Makes JSON lines of events.
pub(super) struct JsonLines<F> {
    service: &'static str,
    /// Takes a line, with its newline.
    out: F,
}

impl<F> JsonLines<F> {
    pub(super) fn new(service: &'static str, out: F) -> Self {
        Self { service, out }
    }
}

#[derive(Default)]
struct Fields(Map<String, Value>);

impl Fields {
    fn put(&mut self, field: &Field, value: Value) {
        // Names that our own lines have keep their meaning.
        let name = match field.name() {
            name @ ("timestamp" | "level" | "target" | "service") => format!("field.{name}"),
            name => name.to_owned(),
        };
        self.0.insert(name, value);
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, text::bounded(format_args!("{value:?}"), text::limit(field.name())).into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, text::cut(value, text::limit(field.name())).into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value.into());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value.into());
    }
}

impl<S, F> tracing_subscriber::Layer<S> for JsonLines<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    F: Fn(Vec<u8>) + Send + Sync + 'static,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        if let Some(span) = context.span(id) {
            let mut fields = Fields::default();
            attributes.record(&mut fields);
            span.extensions_mut().insert(fields);
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        if let Some(span) = context.span(id)
            && let Some(fields) = span.extensions_mut().get_mut::<Fields>()
        {
            values.record(fields);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut line = Fields::default();
        for span in context.event_scope(event).into_iter().flat_map(|scope| scope.from_root()) {
            if let Some(fields) = span.extensions().get::<Fields>() {
                line.0.extend(fields.0.iter().map(|(name, value)| (name.clone(), value.clone())));
            }
        }
        event.record(&mut line);
        let Fields(mut line) = line;
        // Records of the `log` crate carry their real target as a field.
        let target = match line.remove("log.target") {
            Some(Value::String(target)) => target,
            _ => event.metadata().target().to_owned(),
        };
        line.retain(|name, _| !name.starts_with("log."));
        let time = Utc::now().to_rfc3339_opts(SecondsFormat::Micros, true);
        line.insert("timestamp".to_owned(), time.into());
        line.insert("level".to_owned(), event.metadata().level().as_str().into());
        line.insert("target".to_owned(), target.into());
        line.insert("service".to_owned(), self.service.into());
        (self.out)(written(line));
    }
}

/// The line; where it is too long, its longest fields are cut until it fits.
fn written(mut line: Map<String, Value>) -> Vec<u8> {
    let mut bytes = to_bytes(&line);
    let mut limit = text::MAX_FIELD;
    while bytes.len() > MAX_LINE {
        if limit < 16 {
            // So many fields: what every line has is left.
            line.retain(|name, _| {
                ["timestamp", "level", "target", "service", "message"].contains(&name.as_str())
            });
        }
        for value in line.values_mut() {
            if let Value::String(field) = value {
                *field = text::cut(field, limit);
            }
        }
        bytes = to_bytes(&line);
        limit /= 2;
    }
    bytes
}

fn to_bytes(line: &Map<String, Value>) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(512);
    let mut json = serde_json::Serializer::with_formatter(&mut bytes, Visible);
    // Writing strings and numbers to memory does not fail.
    let _infallible = line.serialize(&mut json);
    bytes.push(b'\n');
    bytes
}

/// JSON on one line by everybody's idea of a line, with nothing in it that a terminal obeys.
struct Visible;

impl Formatter for Visible {
    fn write_string_fragment<W: ?Sized + Write>(&mut self, out: &mut W, fragment: &str) -> io::Result<()> {
        let mut rest = fragment;
        while let Some((at, c)) = rest.char_indices().find(|(_, c)| text::is_hidden(*c)) {
            out.write_all(&rest.as_bytes()[..at])?;
            for unit in c.encode_utf16(&mut [0; 2]) {
                write!(out, "\\u{unit:04x}")?;
            }
            rest = &rest[at + c.len_utf8()..];
        }
        out.write_all(rest.as_bytes())
    }
}

#[cfg(test)]
mod tests;
