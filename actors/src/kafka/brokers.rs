//! What a client knows of Kafka's brokers.

use rdkafka::Statistics;

/// Whether it knows one at all: by its settings, or since another one has named it. A broker that is being fenced may say for a moment that
/// there is none; librdkafka then forgets all of them, those of the settings too, and has nobody left to ask.
pub(crate) fn any_is_known(statistics: &Statistics) -> bool {
    statistics.brokers.values().any(|broker| matches!(broker.source.as_str(), "configured" | "learned"))
}
