//! Every metric of the runtime, by name, described in one place.

use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};

/// Records by outcome: `applied`, `duplicate`, `parked`, `dead`, `ignored`, `moved`. Labels: group, topic, outcome.
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
/// Duplicates by who noticed: `redis` (skipped an external call) or `inbox`. Labels: group, source.
pub const DEDUPE_HITS: &str = "backburner_dedupe_hits_total";
/// Records acknowledged by Kafka. Labels: topic.
pub const PUBLISHED: &str = "backburner_kafka_publish_success_total";
/// Records Kafka refused; they stay in the outbox and are sent again. Labels: topic.
pub const PUBLISH_FAILURES: &str = "backburner_kafka_publish_failure_total";
/// Records waiting in `parked`. Labels: group, topic, partition.
pub const PARKED: &str = "backburner_parked_records";
/// Outbox rows that Kafka has not acknowledged. Labels: lane.
pub const OUTBOX_ROWS: &str = "backburner_outbox_unacknowledged_rows";
/// Age of the oldest of them, seconds. Labels: lane.
pub const OUTBOX_AGE: &str = "backburner_outbox_oldest_seconds";
/// Offsets without an outcome; anything but 0 is a bug. Labels: group, topic, partition.
pub const UNACCOUNTED: &str = "backburner_unaccounted_records";
/// Offsets between a lane and its log's end. Labels: group, topic, partition.
pub const LAG: &str = "backburner_lane_lag_records";
/// Age of a lane's oldest delivered and unfinished record, seconds. Labels: group, topic, partition.
pub const OLDEST: &str = "backburner_lane_oldest_seconds";
/// Partitions that work with a server gone, have an open circuit, are paused, wait for a restart or are halted. Labels: group,
/// state.
pub const DEGRADED: &str = "backburner_degraded_partitions";

/// Describes all of them to the installed recorder.
pub fn describe() {
    describe_counter!(RECORDS, "Records by outcome");
    describe_histogram!(BATCH_SECONDS, Unit::Seconds, "Time of one batch from taken to committed");
    describe_counter!(DEAD_LETTERS, "Dead letters by class");
    describe_counter!(RETRIES, "Further attempts at parked records");
    describe_counter!(ACTOR_RESTARTS, "Restarted partition actors");
    describe_counter!(CIRCUIT_OPENED, "Times a lane found that most keys fail alike");
    describe_counter!(DEDUPE_HITS, "Duplicates by who noticed");
    describe_counter!(PUBLISHED, "Records acknowledged by Kafka");
    describe_counter!(PUBLISH_FAILURES, "Records Kafka refused; they stay in the outbox and are sent again");
    describe_gauge!(PARKED, "Records waiting for another attempt or behind one of their key");
    describe_gauge!(OUTBOX_ROWS, "Outbox rows that Kafka has not acknowledged");
    describe_gauge!(
        OUTBOX_AGE,
        Unit::Seconds,
        "Age of the oldest outbox row that Kafka has not acknowledged"
    );
    describe_gauge!(UNACCOUNTED, "Offsets without an outcome; anything but 0 is a bug");
    describe_gauge!(LAG, "Offsets between a lane and its log's end");
    describe_gauge!(OLDEST, Unit::Seconds, "Age of a lane's oldest delivered and unfinished record");
    describe_gauge!(DEGRADED, "Partitions that are degraded, open, paused, restarting or halted");
}
