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
mod tests {
    use std::sync::Arc;

    use parking_lot::Mutex;
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    fn text(work: impl FnOnce()) -> String {
        let out = Arc::new(Mutex::new(Vec::new()));
        let taken = out.clone();
        let lines = JsonLines::new("orders", move |line: Vec<u8>| taken.lock().extend(line));
        tracing::subscriber::with_default(tracing_subscriber::registry().with(lines), work);
        let bytes = out.lock().clone();
        String::from_utf8(bytes).expect("UTF-8")
    }

    fn lines(work: impl FnOnce()) -> Vec<Value> {
        let text = text(work);
        text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    }

    #[test]
    fn a_line_is_flat_and_has_the_fields_of_its_spans() {
        let lines = lines(|| {
            let outer = tracing::info_span!("batch", topic = "orders", partition = 3, offset = 1);
            let _outer = outer.enter();
            let inner = tracing::info_span!("event", offset = 7, correlation_id = tracing::field::Empty);
            inner.record("correlation_id", "c-1");
            let _inner = inner.enter();
            tracing::warn!(attempts = 2, "a \"quoted\"\nmessage");
        });
        let [line] = &lines[..] else { panic!("one line: {lines:?}") };
        let expected = [
            ("service", Value::from("orders")),
            ("level", "WARN".into()),
            ("message", "a \"quoted\"\nmessage".into()),
            ("topic", "orders".into()),
            ("partition", 3.into()),
            ("offset", 7.into()),
            ("correlation_id", "c-1".into()),
            ("attempts", 2.into()),
        ];
        for (name, value) in expected {
            assert_eq!(line[name], value, "{name}");
        }
        assert!(line["timestamp"].as_str().is_some_and(|time| time.ends_with('Z')), "{line}");
    }

    #[test]
    fn no_line_is_longer_than_four_kilobytes() {
        let long = "x".repeat(900_000);
        let hidden = "\u{9b}".repeat(900_000);
        let text = text(|| {
            tracing::warn!(error = long, key = long, "short");
            tracing::warn!(error = hidden, key = %hidden, a = ?hidden, b = hidden, c = hidden, "{long}");
            tracing::warn!(
                a0 = long,
                a1 = long,
                a2 = long,
                a3 = long,
                a4 = long,
                a5 = long,
                a6 = long,
                a7 = long,
                a8 = long,
                a9 = long,
                b0 = hidden,
                b1 = hidden,
                b2 = hidden,
                b3 = hidden,
                b4 = hidden,
                b5 = hidden,
                "many"
            );
        });
        let lines: Vec<&str> = text.split_inclusive('\n').collect();
        assert_eq!(lines.len(), 3);
        for line in lines {
            assert!(line.len() <= MAX_LINE, "{}", line.len());
            assert!(serde_json::from_str::<Value>(line).is_ok_and(|line| line["level"] == "WARN"), "{line}");
        }
        let first: Value = serde_json::from_str(text.lines().next().expect("a line")).expect("JSON");
        assert!(first["error"].as_str().is_some_and(|error| error.len() > 2_000 && error.ends_with('…')));
    }

    #[test]
    fn what_a_terminal_obeys_or_hides_is_escaped() {
        let odd = "a\u{1b}\u{7f}\u{9b}\u{202e}\u{2028}\u{200b}\u{e0041}寿司";
        let text = text(|| tracing::info!(key = odd, "{odd}"));
        assert!(text.trim_end().chars().all(|c| !c.is_control() && !text::is_hidden(c)), "{text:?}");
        let line: Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!((&line["key"], &line["message"]), (&odd.into(), &odd.into()));
    }

    #[test]
    fn a_field_cannot_forge_the_service() {
        let lines = lines(|| tracing::info!(service = "payments", "hello"));
        assert_eq!(lines[0]["service"], "orders");
        assert_eq!(lines[0]["field.service"], "payments");
    }
}
