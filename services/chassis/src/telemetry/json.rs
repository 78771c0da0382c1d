//! One flat JSON object a line: what log stores index best.
//!
//! The fields of the spans around an event stand beside its own, so that a search for an `event_id` or a
//! `correlation_id` finds every line that has to do with it. The innermost wins where a name repeats.

use std::{fmt, io::Write};

use chrono::{SecondsFormat, Utc};
use parking_lot::Mutex;
use serde_json::{Map, Value};
use tracing::{
    Event, Subscriber,
    field::{Field, Visit},
    span::{Attributes, Id, Record},
};
use tracing_subscriber::{layer::Context, registry::LookupSpan};

/// Writes events as JSON lines.
pub(super) struct JsonLines<W> {
    service: &'static str,
    out: Mutex<W>,
}

impl<W> JsonLines<W> {
    pub(super) fn new(service: &'static str, out: W) -> Self {
        Self { service, out: Mutex::new(out) }
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
        self.put(field, Value::String(format!("{value:?}")));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value.into());
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

impl<S, W> tracing_subscriber::Layer<S> for JsonLines<W>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: Write + Send + 'static,
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
        if let Ok(mut bytes) = serde_json::to_vec(&line) {
            bytes.push(b'\n');
            // Nobody is left to tell when the log itself cannot be written.
            let _unwritten = self.out.lock().write_all(&bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    #[derive(Clone, Default)]
    struct Shared(Arc<Mutex<Vec<u8>>>);

    impl Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn lines(work: impl FnOnce()) -> Vec<Value> {
        let out = Shared::default();
        let subscriber = tracing_subscriber::registry().with(JsonLines::new("orders", out.clone()));
        tracing::subscriber::with_default(subscriber, work);
        let text = String::from_utf8(out.0.lock().clone()).expect("UTF-8");
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
    fn a_field_cannot_forge_the_service() {
        let lines = lines(|| tracing::info!(service = "payments", "hello"));
        assert_eq!(lines[0]["service"], "orders");
        assert_eq!(lines[0]["field.service"], "payments");
    }
}
