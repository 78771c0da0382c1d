//! Every metric of the runtime, by name, described in one place.

use dead_letters::{Class, TopicPartition};
use metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram};

/// Records by outcome: `applied`, `duplicate`, `parked`, `dead`, `ignored`, `moved`, and `lost`: offsets passed without a look at their
/// records, by a reset or because retention had deleted them. Labels: group, topic, outcome.
pub const RECORDS: &str = "backburner_records_total";
/// Time of one batch from taken to committed, seconds. Labels: group.
pub const BATCH_SECONDS: &str = "backburner_batch_seconds";
/// Dead letters by class. Labels: group, class.
pub const DEAD_LETTERS: &str = "backburner_dlq_records_total";
/// Further attempts at parked records. Labels: group.
pub const RETRIES: &str = "backburner_retries_total";
/// Restarted partition actors. Labels: group, topic, partition.
pub const ACTOR_RESTARTS: &str = "backburner_actor_restarts_total";
/// Times a lane found that most keys fail alike. Labels: group.
pub const CIRCUIT_OPENED: &str = "backburner_circuit_opened_total";
/// 1 while most calls to a server fail and it is not asked, else 0. Labels: server.
pub const BREAKER_OPEN: &str = "backburner_breaker_open";
/// Duplicates by who noticed: `redis` (skipped an external call) or `inbox`. Labels: group, source.
pub const DEDUPE_HITS: &str = "backburner_dedupe_hits_total";
/// Records acknowledged by Kafka. Labels: topic.
pub const PUBLISHED: &str = "backburner_kafka_publish_success_total";
/// Records Kafka refused; they stay in the outbox and are tried again. Labels: topic.
pub const PUBLISH_FAILURES: &str = "backburner_kafka_publish_failure_total";
/// Records waiting in `parked`. Labels: group, topic, partition.
pub const PARKED: &str = "backburner_parked_records";
/// Since the record that was parked first was parked, seconds; 0 without one. Labels: group, topic, partition.
pub const PARKED_AGE: &str = "backburner_parked_oldest_seconds";
/// Outbox rows that Kafka has not acknowledged. Labels: group, topic, partition (of the lane that wrote them; empty for what was
/// written beside all partitions, such as by the HTTP side).
pub const OUTBOX_ROWS: &str = "backburner_outbox_unacknowledged_rows";
/// Age of the oldest of them, seconds. Labels: as above.
pub const OUTBOX_AGE: &str = "backburner_outbox_oldest_seconds";
/// Offsets without an outcome; anything but 0 is a bug. Labels: group, topic, partition.
pub const UNACCOUNTED: &str = "backburner_unaccounted_records";
/// Offsets between a lane and its log's end. Labels: group, topic, partition.
pub const LAG: &str = "backburner_lane_lag_records";
/// Time since a lane's oldest delivered and unfinished record was written, seconds. Labels: group, topic, partition.
pub const OLDEST: &str = "backburner_lane_oldest_seconds";
/// Partitions that work with a server gone, have an open circuit, are paused, wait for a restart or are halted. Labels: group,
/// state.
pub const DEGRADED: &str = "backburner_degraded_partitions";
/// What a partition is doing, as a number that rises with how far that is from its work: 0 running, 1 claiming, 2 paused, 3 restarting,
/// 4 open, 5 degraded, 6 halted. Labels: group, topic, partition.
pub const STATE: &str = "backburner_partition_state";
/// 1 for each condition that `/readyz` lists as degraded. Labels: group, topic and partition (empty where it has none), code.
pub const CONDITIONS: &str = "backburner_degraded";
/// How far the inbox reaches back beyond what it has to remember, seconds. Labels: group.
pub const INBOX_PAST_RETENTION: &str = "backburner_inbox_oldest_past_retention_seconds";
/// Age of the oldest transaction, prepared transaction or replication slot that keeps dead rows of the group's database,
/// seconds. Labels: group.
pub const OLDEST_SNAPSHOT: &str = "backburner_oldest_snapshot_seconds";

/// Gauges that are made at the scrape from what is there at that moment (see [`Sample`]), with their help.
const GAUGES: [(&str, &str); 12] = [
    (PARKED, "Records waiting for another attempt or behind one of their key"),
    (PARKED_AGE, "Since the record that was parked first was parked"),
    (OUTBOX_ROWS, "Outbox rows that Kafka has not acknowledged"),
    (OUTBOX_AGE, "Age of the oldest outbox row that Kafka has not acknowledged"),
    (UNACCOUNTED, "Offsets without an outcome; anything but 0 is a bug"),
    (LAG, "Offsets between a lane and its log's end"),
    (OLDEST, "Time since a lane's oldest delivered and unfinished record was written"),
    (DEGRADED, "Partitions that are degraded, open, paused, restarting or halted"),
    (STATE, "0 running, 1 claiming, 2 paused, 3 restarting, 4 open, 5 degraded, 6 halted"),
    (CONDITIONS, "1 for each condition that does not let something work as it should"),
    (INBOX_PAST_RETENTION, "How far the inbox reaches back beyond what it has to remember"),
    (OLDEST_SNAPSHOT, "Age of the oldest transaction or slot that keeps dead rows of the database"),
];

/// A gauge as it is now. Nothing is set and left: what is not there any more has no series.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// One of the names above.
    pub name: &'static str,
    /// Names and values.
    pub labels: Vec<(&'static str, String)>,
    /// The value.
    pub value: f64,
}

/// What a gauge of [`Sample`]s says, for its HELP line; nothing for another name.
pub fn help(name: &str) -> &'static str {
    GAUGES.iter().find(|(known, _)| *known == name).map_or("", |(_, help)| help)
}

/// The outcomes of a source's records.
const OUTCOMES: [&str; 6] = ["applied", "duplicate", "ignored", "parked", "dead", "lost"];
/// Those of a requeue topic's.
const REQUEUE_OUTCOMES: [&str; 3] = ["moved", "ignored", "dead"];

/// Counts offsets that were passed without a look at their records.
pub(crate) fn lost(group: &str, topic: &str, offsets: i64) {
    if let Some(offsets) = u64::try_from(offsets).ok().filter(|offsets| *offsets > 0) {
        counter!(RECORDS, "group" => group.to_owned(), "topic" => topic.to_owned(), "outcome" => "lost")
            .increment(offsets);
    }
}

/// Lets a group's counters begin at 0: one that is born with its first event has no increase that an alert could see.
pub(crate) fn begin_group(group: &str, topics: &[String], requeue_topic: &str) {
    let group = || group.to_owned();
    let sources = topics.iter().flat_map(|topic| OUTCOMES.map(|outcome| (topic.as_str(), outcome)));
    for (topic, outcome) in sources.chain(REQUEUE_OUTCOMES.map(|outcome| (requeue_topic, outcome))) {
        counter!(RECORDS, "group" => group(), "topic" => topic.to_owned(), "outcome" => outcome).increment(0);
    }
    for class in Class::ALL {
        counter!(DEAD_LETTERS, "group" => group(), "class" => class.as_str()).increment(0);
    }
    for source in ["redis", "inbox"] {
        counter!(DEDUPE_HITS, "group" => group(), "source" => source).increment(0);
    }
    counter!(RETRIES, "group" => group()).increment(0);
    counter!(CIRCUIT_OPENED, "group" => group()).increment(0);
}

/// The same for a partition that arrives.
pub(crate) fn begin_partition(group: &str, source: &TopicPartition) {
    let (topic, partition) = (source.topic.to_string(), source.partition.to_string());
    counter!(ACTOR_RESTARTS, "group" => group.to_owned(), "topic" => topic, "partition" => partition)
        .increment(0);
}

/// The same for topics that this process is going to publish to.
pub fn begin_topics<'a>(topics: impl IntoIterator<Item = &'a str>) {
    for topic in topics {
        counter!(PUBLISHED, "topic" => topic.to_owned()).increment(0);
        counter!(PUBLISH_FAILURES, "topic" => topic.to_owned()).increment(0);
    }
}

/// Describes the counters and histograms to the installed recorder; the gauges describe themselves.
pub fn describe() {
    describe_counter!(RECORDS, "Records by outcome");
    describe_histogram!(BATCH_SECONDS, Unit::Seconds, "Time of one batch from taken to committed");
    describe_counter!(DEAD_LETTERS, "Dead letters by class");
    describe_counter!(RETRIES, "Further attempts at parked records");
    describe_counter!(ACTOR_RESTARTS, "Restarted partition actors");
    describe_counter!(CIRCUIT_OPENED, "Times a lane found that most keys fail alike");
    describe_gauge!(BREAKER_OPEN, "1 while most calls to a server fail and it is not asked, else 0");
    describe_counter!(DEDUPE_HITS, "Duplicates by who noticed");
    describe_counter!(PUBLISHED, "Records acknowledged by Kafka");
    describe_counter!(PUBLISH_FAILURES, "Records Kafka refused; they stay in the outbox and are sent again");
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, sync::Mutex};

    use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString};

    use super::*;

    /// Remembers which series were begun.
    #[derive(Debug, Default)]
    struct Begun(Mutex<BTreeSet<String>>);

    impl Recorder for Begun {
        fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
        fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
        fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

        fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
            let labels: Vec<_> =
                key.labels().map(|label| format!("{}={}", label.key(), label.value())).collect();
            self.0.lock().expect("not poisoned").insert(format!("{} {}", key.name(), labels.join(" ")));
            Counter::noop()
        }

        fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
            panic!("{key} is set and left")
        }

        fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
            Histogram::noop()
        }
    }

    #[test]
    fn what_is_known_begins_at_nothing() {
        let begun = Begun::default();
        metrics::with_local_recorder(&begun, || {
            begin_group("g", &["a".into(), "b".into()], "g.requeue");
            begin_partition("g", &TopicPartition::new("a", 3));
            begin_topics(["out"]);
        });
        let begun = begun.0.into_inner().expect("not poisoned");
        for series in [
            "backburner_records_total group=g topic=b outcome=parked",
            "backburner_records_total group=g topic=g.requeue outcome=dead",
            "backburner_dlq_records_total group=g class=poison",
            "backburner_dlq_records_total group=g class=crash",
            "backburner_retries_total group=g",
            "backburner_circuit_opened_total group=g",
            "backburner_dedupe_hits_total group=g source=redis",
            "backburner_actor_restarts_total group=g topic=a partition=3",
            "backburner_kafka_publish_success_total topic=out",
            "backburner_kafka_publish_failure_total topic=out",
        ] {
            assert!(begun.contains(series), "{series} in {begun:?}");
        }
        assert_eq!(begun.len(), 2 * OUTCOMES.len() + REQUEUE_OUTCOMES.len() + 4 + 2 + 2 + 1 + 2);
    }

    #[test]
    fn every_gauge_has_a_help_of_its_own() {
        assert!(GAUGES.iter().all(|(name, help)| name.starts_with("backburner_") && !help.is_empty()));
        assert_eq!(help(LAG), "Offsets between a lane and its log's end");
        assert_eq!(help("other"), "");
    }
}
