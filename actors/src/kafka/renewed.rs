//! A client that asks Kafka things now and then, and that another one takes the place of once it was not answered.
//!
//! librdkafka keeps what a broker said of its topics for many minutes. One that was asked while it went down, or came up, says
//! that there are no partitions; a client that reads or writes hears better soon, one that only asks does not.

use std::{
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use rdkafka::{
    ClientConfig,
    consumer::{BaseConsumer, ConsumerContext},
    error::KafkaError,
};

use crate::Cause;

/// A client in no group. Cheap to clone; all clones are one. Every method of it may block.
pub(crate) struct Renewed<C: ConsumerContext + Default + 'static>(Arc<Inner<C>>);

/// A client is given so long before another takes its place.
const TERM: Duration = Duration::from_secs(3);

struct Inner<C: ConsumerContext + Default + 'static> {
    config: ClientConfig,
    current: Mutex<Current<C>>,
}

struct Current<C: ConsumerContext + Default + 'static> {
    client: Arc<BaseConsumer<C>>,
    since: Instant,
}

impl<C: ConsumerContext + Default + 'static> Renewed<C> {
    /// Kafka need not be reachable.
    ///
    /// # Errors
    /// Settings that librdkafka refuses.
    pub(crate) fn new(config: ClientConfig) -> Result<Self, Cause> {
        let client = config.create_with_context(C::default());
        let client = client.map_err(|error| Cause::from_error("kafka-settings", &error))?;
        let current = Mutex::new(Current { client: Arc::new(client), since: Instant::now() });
        Ok(Self(Arc::new(Inner { config, current })))
    }

    /// Asks. A client that was not answered is not asked again.
    pub(crate) fn ask<T, E>(&self, question: impl FnOnce(&BaseConsumer<C>) -> Result<T, E>) -> Result<T, E> {
        let client = self.0.current.lock().client.clone();
        let answer = question(&client);
        if answer.is_err() {
            self.renew(&client);
            // Its farewell may take long, and nobody is to wait for it; without a thread whoever asks does.
            drop(thread::Builder::new().name("client-end".to_owned()).spawn(move || drop(client)));
        }
        answer
    }

    fn renew(&self, failed: &Arc<BaseConsumer<C>>) {
        let mut current = self.0.current.lock();
        // Many may have asked it at once, and Kafka may be gone for long.
        if !Arc::ptr_eq(&current.client, failed) || current.since.elapsed() < TERM {
            return;
        }
        let fresh: Result<_, KafkaError> = self.0.config.create_with_context(C::default());
        match fresh {
            Ok(fresh) => *current = Current { client: Arc::new(fresh), since: Instant::now() },
            Err(error) => tracing::warn!(%error, "no new client that asks Kafka can be built"),
        }
    }
}

impl<C: ConsumerContext + Default + 'static> Clone for Renewed<C> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

#[cfg(test)]
mod tests {
    use rdkafka::consumer::DefaultConsumerContext;

    use super::*;

    #[test]
    fn a_client_that_was_not_answered_is_not_asked_again() {
        let client = Renewed::<DefaultConsumerContext>::new(ClientConfig::new()).expect("a client");
        let who = |answer: Result<(), ()>| {
            let mut asked = std::ptr::null();
            let _ = client.ask(|client| {
                asked = std::ptr::from_ref(client);
                // As long as another holds it, a new one has another place.
                answer
            });
            asked
        };
        let held = client.0.current.lock().client.clone();
        assert_eq!(who(Err(())), Arc::as_ptr(&held));
        assert_eq!(who(Ok(())), Arc::as_ptr(&held), "it has only just begun");
        client.0.current.lock().since -= TERM;
        assert_eq!(who(Err(())), Arc::as_ptr(&held));
        assert_ne!(who(Ok(())), Arc::as_ptr(&held));
    }
}
