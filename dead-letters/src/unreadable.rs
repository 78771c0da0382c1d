//! Batches that Kafka has and nobody can read, and how a reader gets past one.

use rdkafka::{error::KafkaError, types::RDKafkaErrorCode};

/// Whether the error is one of the bytes of a batch, which nobody mends by trying again: a tool passes it by, a partition halts on it
/// after a while.
pub fn is_unreadable(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(
            RDKafkaErrorCode::BadMessage
                | RDKafkaErrorCode::BadCompression
                | RDKafkaErrorCode::NotImplemented
                | RDKafkaErrorCode::Underflow
                | RDKafkaErrorCode::InvalidMessage
                | RDKafkaErrorCode::InvalidMessageSize
                | RDKafkaErrorCode::MessageSizeTooLarge
                | RDKafkaErrorCode::UnsupportedCompressionType
        )
    )
}

/// Where the batch begins, from the client's own words, such as `Decompression (codec 0x3) of message at 7 of 512 bytes failed: …`.
pub(crate) fn batch_named(why: &str) -> Option<i64> {
    why.split_once(" at ")?.1.trim_start_matches("offset ").split(' ').next()?.parse().ok()
}

/// The first offset past the batch that `bad` lies in; `end` if there is none before. `beyond` says whether an offset lies past that
/// batch. Steps get longer and then shorter, so that a batch of any size takes few of them.
///
/// # Errors
/// What `beyond` says.
pub(crate) fn end_of_batch<E>(
    bad: i64,
    end: i64,
    mut beyond: impl FnMut(i64) -> Result<bool, E>,
) -> Result<i64, E> {
    let (mut bad, mut step) = (bad, 1);
    let mut past = loop {
        let tried = bad.saturating_add(step).min(end);
        if tried >= end || beyond(tried)? {
            break tried.max(bad + 1);
        }
        (bad, step) = (tried, step.saturating_mul(2));
    };
    while past - bad > 1 {
        let middle = bad + (past - bad) / 2;
        if beyond(middle)? {
            past = middle;
        } else {
            bad = middle;
        }
    }
    Ok(past)
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    #[test]
    fn what_the_bytes_of_a_batch_are_at_fault_for_is_told_from_what_passes() {
        use RDKafkaErrorCode::*;
        let bytes = [
            // Damaged, on the disk or on the way to it.
            BadMessage,
            InvalidMessage,
            InvalidMessageSize,
            Underflow,
            // Compressed by a codec that this client, or its version of the protocol, does not have, or not rightly.
            BadCompression,
            NotImplemented,
            UnsupportedCompressionType,
            // Larger than anything this client takes.
            MessageSizeTooLarge,
        ];
        for code in bytes {
            assert!(is_unreadable(&KafkaError::MessageConsumption(code)), "{code}");
        }
        // Servers that are gone, places that are elsewhere, what one may not: it ends, or has a name of its own.
        let other = [
            BrokerTransportFailure,
            AllBrokersDown,
            OperationTimedOut,
            NotLeaderForPartition,
            LeaderNotAvailable,
            UnknownTopicOrPartition,
            OffsetOutOfRange,
            AutoOffsetReset,
            TopicAuthorizationFailed,
            Unknown,
        ];
        for code in other {
            assert!(!is_unreadable(&KafkaError::MessageConsumption(code)), "{code}");
        }
        assert!(!is_unreadable(&KafkaError::Canceled));
    }

    #[test]
    fn the_client_says_where_the_batch_begins() {
        for (why, batch) in [
            ("Decompression (codec 0x3) of message at 7 of 512 bytes failed: Local: Bad", Some(7)),
            ("MessageSet at offset 12 (77 bytes) failed CRC32C check", Some(12)),
            ("Local: Not implemented", None),
            ("nothing at all", None),
        ] {
            assert_eq!(batch_named(why), batch, "{why}");
        }
    }

    #[test]
    fn the_end_of_a_batch_that_cannot_be_read_is_found_in_few_steps() {
        for (bad, good, end) in
            [(0, 1, 10), (5, 8, 8), (5, 8, 20), (100, 1_100, 50_000), (7, 8, 8), (7, 9, 8), (3, 90, 90)]
        {
            let mut asked = 0;
            let found = end_of_batch(bad, end, |offset| {
                asked += 1;
                Ok::<_, Infallible>(offset >= good)
            });
            assert_eq!(found.expect("answered"), good.min(end), "{bad} {good} {end}");
            assert!(asked <= 24, "{asked} for {} offsets", good - bad);
        }
    }
}
