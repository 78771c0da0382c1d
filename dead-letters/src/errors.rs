//! Errors as they are shown.

use std::error::Error;

/// An error and its causes in one line. Errors of librdkafka carry the text of their cause and have it as their source as well: what
/// the text before it ends with is not said again.
pub fn one_line(error: &(dyn Error + 'static)) -> String {
    let (mut said, mut next) = (error.to_string(), error.source());
    while let Some(cause) = next {
        let words = cause.to_string();
        if !said.ends_with(&words) {
            said = format!("{said}: {words}");
        }
        next = cause.source();
    }
    said
}

#[cfg(test)]
mod tests {
    use rdkafka::{error::KafkaError, types::RDKafkaErrorCode};

    use super::*;
    use crate::ReadError;

    #[test]
    fn every_cause_is_said_once() {
        let kafka = KafkaError::MetadataFetch(RDKafkaErrorCode::BrokerTransportFailure);
        let said = "Meta data fetch error: BrokerTransportFailure (Local: Broker transport failure)";
        assert_eq!(one_line(&kafka), said);
        let error = ReadError::Topic { topic: "orders".to_owned(), source: kafka };
        assert_eq!(one_line(&error), format!("reading orders: {said}"));
        let alone = ReadError::Unanswered { what: "asking".to_owned(), why: "nobody there".to_owned() };
        assert_eq!(one_line(&alone), "asking: nobody there");
    }
}
