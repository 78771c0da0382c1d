use tracing_subscriber::layer::SubscriberExt;

use super::*;

/// Lines that pass, as messages.
#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Vec<String>>>);

impl<S: Subscriber> Layer<S> for Kept {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut said = Said::default();
        event.record(&mut said);
        self.0.lock().push(said.message);
    }
}

fn warn(partition: i32) {
    tracing::warn!(topic = "orders", partition, "cannot be read");
}

#[test]
fn what_repeats_is_counted_and_summed_up() {
    let (brake, kept) = (Brake::default(), Kept::default());
    let subscriber = tracing_subscriber::registry().with(brake.before(kept.clone()));
    tracing::subscriber::with_default(subscriber, || {
        for _ in 0..50 {
            warn(1);
            tracing::info!("not held back");
            tracing::warn!(name: "dead-letter", "dead");
        }
        warn(2);
        for partition in 0..20 {
            let lane = tracing::error_span!("partition", topic = "orders", partition);
            lane.in_scope(|| tracing::warn!("halted"));
        }
        let count = |what: &str| kept.0.lock().iter().filter(|line| *line == what).count();
        let counts = ["cannot be read", "halted", "not held back", "dead"].map(count);
        assert_eq!(counts, [11, 20, 50, 50], "what a line is about, its span may say");
        brake.sum_up(Instant::now());
        assert_eq!(kept.0.lock().len(), 131, "the minute is not over");
        let later = Instant::now() + PERIOD;
        brake.sum_up(later);
        assert_eq!(
            kept.0.lock().last().map(String::as_str),
            Some("… 40 more like it in a minute: cannot be read")
        );
        warn(1);
        assert_eq!(kept.0.lock().len(), 132, "it goes on, and is counted from the first");
        brake.sum_up(later + PERIOD);
        assert_eq!(
            kept.0.lock().last().map(String::as_str),
            Some("… 1 more like it in a minute: cannot be read")
        );
        brake.sum_up(later + PERIOD * 2);
        warn(1);
        assert_eq!(
            kept.0.lock().last().map(String::as_str),
            Some("cannot be read"),
            "a quiet minute ends it"
        );
    });
}
