//! The client of a reader, and what it is asked.

use std::{collections::BTreeMap, time::Duration};

use rdkafka::{
    ClientConfig,
    consumer::{BaseConsumer, Consumer},
    error::KafkaError,
    metadata::Metadata,
    types::RDKafkaErrorCode,
};

use super::span::ReadError;
use crate::{
    client::{KafkaSettings, client_config},
    complaints::Complaints,
};

/// What reads decided transactions from the beginning to the end, and commits nothing.
pub(super) fn config(kafka: &KafkaSettings, client_id: &str) -> ClientConfig {
    let ours = [
        ("client.id", client_id),
        // No group is joined and nothing is committed; the library wants a name to hand out partitions by.
        ("group.id", client_id),
        // The end of a partition is told with the first empty answer: let that come soon.
        ("fetch.wait.max.ms", "20"),
        ("fetch.queue.backoff.ms", "10"),
        // What cannot be read is looked for by asking again.
        ("fetch.error.backoff.ms", "20"),
        ("queued.max.messages.kbytes", "16384"),
    ];
    let mut config = client_config(kafka, &ours);
    for (name, value) in [
        ("enable.auto.commit", "false"),
        ("enable.auto.offset.store", "false"),
        ("enable.partition.eof", "true"),
        ("isolation.level", "read_committed"),
        // Retention may delete the oldest records while they are read.
        ("auto.offset.reset", "earliest"),
        ("allow.auto.create.topics", "false"),
    ] {
        config.set(name, value);
    }
    config
}

pub(super) fn client(config: &ClientConfig) -> Result<BaseConsumer<Complaints>, ReadError> {
    config.create_with_context(Complaints::default()).map_err(ReadError::Client)
}

pub(super) fn topics(
    consumer: &BaseConsumer<Complaints>,
    timeout: Duration,
) -> Result<BTreeMap<String, usize>, ReadError> {
    let metadata = metadata(consumer, None, timeout)?;
    Ok(metadata.topics().iter().map(|topic| (topic.name().to_owned(), topic.partitions().len())).collect())
}

pub(super) fn partitions(
    consumer: &BaseConsumer<Complaints>,
    topic: &str,
    timeout: Duration,
) -> Result<BTreeMap<i32, bool>, ReadError> {
    let metadata = metadata(consumer, Some(topic), timeout)?;
    let mut partitions = BTreeMap::new();
    for one in metadata.topics() {
        // A topic that may not be read looks like one that is not there.
        if let Some(RDKafkaErrorCode::TopicAuthorizationFailed) = one.error().map(RDKafkaErrorCode::from) {
            let code = RDKafkaErrorCode::TopicAuthorizationFailed;
            return Err(wrong(topic, KafkaError::MetadataFetch(code)));
        }
        partitions.extend(one.partitions().iter().map(|one| (one.id(), one.leader() >= 0)));
    }
    Ok(partitions)
}

fn metadata(
    consumer: &BaseConsumer<Complaints>,
    topic: Option<&str>,
    timeout: Duration,
) -> Result<Metadata, ReadError> {
    consumer.fetch_metadata(topic, timeout).map_err(|error| {
        let what = match topic {
            Some(topic) => format!("asking for the partitions of {topic}"),
            None => "asking for the topics".to_owned(),
        };
        ReadError::Unanswered { what, why: Complaints::why(consumer, &error) }
    })
}

pub(super) fn wrong(topic: &str, source: KafkaError) -> ReadError {
    ReadError::Topic { topic: topic.to_owned(), source }
}

/// Whether asking again is in vain. Everything else passes, by itself or by the client's doing, or ends in a stall.
pub(super) fn is_final(error: &KafkaError) -> bool {
    // What has no code is none of Kafka's errors but one of our call.
    error.rdkafka_error_code().is_none_or(|code| {
        matches!(
            code,
            RDKafkaErrorCode::Fatal
                | RDKafkaErrorCode::InvalidArgument
                | RDKafkaErrorCode::SSL
                | RDKafkaErrorCode::Authentication
                | RDKafkaErrorCode::SaslAuthenticationFailed
                | RDKafkaErrorCode::UnsupportedSASLMechanism
                | RDKafkaErrorCode::TopicAuthorizationFailed
                | RDKafkaErrorCode::ClusterAuthorizationFailed
                | RDKafkaErrorCode::UnsupportedVersion
                | RDKafkaErrorCode::InvalidTopic
                // Said after half a minute of looking for it.
                | RDKafkaErrorCode::UnknownTopic
                | RDKafkaErrorCode::UnknownPartition
                | RDKafkaErrorCode::UnknownTopicOrPartition
                // There is no offset to begin at.
                | RDKafkaErrorCode::AutoOffsetReset
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_refused_is_told_from_what_passes() {
        use RDKafkaErrorCode::*;
        let refused = [
            TopicAuthorizationFailed,
            ClusterAuthorizationFailed,
            SaslAuthenticationFailed,
            Authentication,
            SSL,
            UnknownTopicOrPartition,
            AutoOffsetReset,
            Fatal,
        ];
        for code in refused {
            assert!(is_final(&KafkaError::MessageConsumption(code)), "{code}");
        }
        assert!(is_final(&KafkaError::Canceled));
        // The client goes on by itself, and a partition of which no more is heard has a limit of its own.
        let passing = [
            BrokerTransportFailure,
            AllBrokersDown,
            Resolve,
            OperationTimedOut,
            RequestTimedOut,
            NotLeaderForPartition,
            LeaderNotAvailable,
            BrokerNotAvailable,
            KafkaStorageError,
            FencedLeaderEpoch,
            UnknownLeaderEpoch,
            OffsetNotAvailable,
            NotCoordinator,
            GroupAuthorizationFailed,
            Unknown,
        ];
        for code in passing {
            assert!(!is_final(&KafkaError::MessageConsumption(code)), "{code}");
        }
    }
}
