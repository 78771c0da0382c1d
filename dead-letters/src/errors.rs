//! Errors as they are shown.

/// An error and its causes in one line. Errors of librdkafka carry the text of their cause and have it as their source as well: what
/// the text before it ends with is not said again.
pub fn one_line(error: &anyhow::Error) -> String {
    error.chain().map(ToString::to_string).fold(String::new(), |said, cause| match said.as_str() {
        "" => cause,
        said if said.ends_with(&cause) => said.to_owned(),
        said => format!("{said}: {cause}"),
    })
}

#[cfg(test)]
mod tests {
    use anyhow::{Context as _, anyhow};
    use rdkafka::{error::KafkaError, types::RDKafkaErrorCode};

    use super::*;

    #[test]
    fn every_cause_is_said_once() {
        let kafka = KafkaError::MetadataFetch(RDKafkaErrorCode::BrokerTransportFailure);
        let error = Err::<(), _>(kafka).context("Kafka does not answer").expect_err("an error");
        assert_eq!(
            one_line(&error),
            "Kafka does not answer: Meta data fetch error: BrokerTransportFailure (Local: Broker transport failure)"
        );
        let error = anyhow!("no such file").context("it cannot be read").context("kafka cannot be started");
        assert_eq!(one_line(&error), "kafka cannot be started: it cannot be read: no such file");
        assert_eq!(one_line(&anyhow!("alone")), "alone");
    }
}
