//! Lines that repeat are counted instead of written.
//!
//! A server that is gone makes every partition say so at every try. After [`FREELY`] warnings of one place in the code about one
//! subject (group, topic, partition, code; of the line, or of the spans around it) further ones are counted, and once a minute one line says how many there were. Lines of
//! which each is about another thing are let through: they are named `dead-letter` or `restart`.

use std::{
    collections::{HashMap, hash_map::DefaultHasher},
    fmt,
    hash::{Hash, Hasher},
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tracing::{
    Event, Level, Subscriber,
    callsite::Identifier,
    field::{Field, Visit},
    span::{Attributes, Id, Record},
};
use tracing_subscriber::{Layer, layer::Context, registry::LookupSpan};

use super::text;

/// Lines of one kind in one [`PERIOD`].
const FREELY: u32 = 10;
const PERIOD: Duration = Duration::from_secs(60);
/// Kinds that are remembered at the same time.
const MAX_KINDS: usize = 1_024;
/// Names of events that are never held back; the last is our own.
const EXEMPT: [&str; 3] = ["dead-letter", "restart", "brake"];
/// Longest part of a message that is repeated.
const MAX_SAMPLE: usize = 256;

/// Decides which lines are written. Cheap to clone; all clones are one.
#[derive(Clone, Debug, Default)]
pub(super) struct Brake(Arc<Mutex<HashMap<Kind, Count>>>);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Kind {
    place: Identifier,
    subject: u64,
}

#[derive(Debug)]
struct Count {
    since: Instant,
    written: u32,
    held: u64,
    sample: Said,
}

/// What a line is about, and its message.
#[derive(Clone, Debug, Default)]
struct Said {
    message: String,
    group: Option<String>,
    topic: Option<String>,
    partition: Option<i64>,
    code: Option<String>,
    log_target: Option<String>,
}

impl Visit for Said {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let slot = match field.name() {
            "message" => {
                self.message = text::bounded(format_args!("{value:?}"), MAX_SAMPLE);
                return;
            }
            "group" => &mut self.group,
            "topic" => &mut self.topic,
            "code" => &mut self.code,
            "log.target" => &mut self.log_target,
            _ => return,
        };
        *slot = Some(text::bounded(format_args!("{value:?}"), MAX_SAMPLE));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.record_debug(field, &format_args!("{value}"));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        if field.name() == "partition" {
            self.partition = Some(value);
        }
    }
}

impl Said {
    /// Of what a span around the line is about, the line may say nothing itself.
    fn within(&mut self, span: &Self) {
        let Self { group, topic, partition, code, .. } = span;
        for (here, around) in [(&mut self.group, group), (&mut self.topic, topic), (&mut self.code, code)] {
            *here = around.clone().or(here.take());
        }
        self.partition = partition.or(self.partition);
    }

    fn subject(&self) -> u64 {
        let mut hash = DefaultHasher::new();
        (&self.group, &self.topic, self.partition, &self.code).hash(&mut hash);
        if self.log_target.is_some() {
            // Everything that comes through the `log` crate has one place in the code.
            (&self.log_target, self.message.get(..32).unwrap_or(&self.message)).hash(&mut hash);
        }
        hash.finish()
    }
}

impl Brake {
    /// Whether a line is to be written.
    fn passes<S: Subscriber + for<'a> LookupSpan<'a>>(
        &self,
        event: &Event<'_>,
        context: &Context<'_, S>,
        now: Instant,
    ) -> bool {
        let metadata = event.metadata();
        if *metadata.level() > Level::WARN || EXEMPT.contains(&metadata.name()) {
            return true;
        }
        let mut said = Said::default();
        for span in context.event_scope(event).into_iter().flat_map(|scope| scope.from_root()) {
            if let Some(span) = span.extensions().get::<Said>() {
                said.within(span);
            }
        }
        event.record(&mut said);
        let kind = Kind { place: metadata.callsite(), subject: said.subject() };
        let mut counts = self.0.lock();
        if counts.len() >= MAX_KINDS && !counts.contains_key(&kind) {
            counts.retain(|_, count| count.held > 0 || now.duration_since(count.since) < PERIOD);
            if counts.len() >= MAX_KINDS {
                // Of so many kinds none can be many.
                return true;
            }
        }
        let count =
            counts.entry(kind).or_insert_with(|| Count { since: now, written: 0, held: 0, sample: said });
        if count.held == 0 && now.duration_since(count.since) >= PERIOD {
            (count.since, count.written) = (now, 0);
        }
        if count.written < FREELY {
            count.written += 1;
            return true;
        }
        count.held += 1;
        false
    }

    /// Says what was held back, for each kind once a minute.
    pub(super) fn sum_up(&self, now: Instant) {
        let mut due = Vec::new();
        self.0.lock().retain(|_, count| {
            if now.duration_since(count.since) < PERIOD {
                return true;
            }
            if count.held > 0 {
                due.push((count.held, count.sample.clone()));
                // A minute that was full is followed by one that begins with a full count: only a quiet one ends that.
                (count.since, count.written, count.held) = (now, FREELY, 0);
                return true;
            }
            false
        });
        for (held, Said { message, group, topic, partition, code, .. }) in due {
            tracing::warn!(name: "brake", held, group, topic, partition, code, "… {held} more like it in a minute: {message}");
        }
    }
}

/// A layer behind the brake. (A filter of `tracing-subscriber` could say the same; one that looks at an event's fields trips over
/// an assertion of the library's.)
#[derive(Debug)]
pub(super) struct Braked<L> {
    layer: L,
    brake: Brake,
}

impl Brake {
    /// Puts `layer` behind this brake.
    pub(super) fn before<L>(&self, layer: L) -> Braked<L> {
        Braked { layer, brake: self.clone() }
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>, L: Layer<S>> Layer<S> for Braked<L> {
    fn on_layer(&mut self, subscriber: &mut S) {
        self.layer.on_layer(subscriber);
    }

    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        if let Some(span) = context.span(id) {
            let mut said = Said::default();
            attributes.record(&mut said);
            span.extensions_mut().insert(said);
        }
        self.layer.on_new_span(attributes, id, context);
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        self.layer.on_record(id, values, context);
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        if self.brake.passes(event, &context, Instant::now()) {
            self.layer.on_event(event, context);
        }
    }

    fn on_enter(&self, id: &Id, context: Context<'_, S>) {
        self.layer.on_enter(id, context);
    }

    fn on_exit(&self, id: &Id, context: Context<'_, S>) {
        self.layer.on_exit(id, context);
    }

    fn on_close(&self, id: Id, context: Context<'_, S>) {
        self.layer.on_close(id, context);
    }
}

#[cfg(test)]
mod tests;
