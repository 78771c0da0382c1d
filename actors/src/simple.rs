//! The simple door: one function per event, in the transaction of its batch.

use std::{
    future::Future,
    hash::{DefaultHasher, Hash, Hasher},
};

use deadpool_postgres::{GenericClient, Transaction};

use crate::{
    event::{Attempt, Decision, Decoded, Emit, Event},
    failure::{Failure, Rejection},
    handler::{Handler, LoadResult, Loaded, Lock, SaveResult},
    one_by_one::{HandleError, Handling, OneByOne},
    record::Record,
};

/// A handler that takes its events one by one.
///
/// It has the promises of a [`Handler`]: effects exactly once, in the order of a key, and an event that fails is parked with its
/// key's followers, or dead, by itself. What it costs is one round trip or more to PostgreSQL for each event, where a `Handler` needs
/// two for a batch; `./dev bench runtime` shows both.
///
/// ```
/// use actors::{Attempt, Cause, Decoded, Emit, Event, HandleError, Record, Rejection, SimpleHandler};
/// use deadpool_postgres::Transaction;
///
/// struct Clicks;
///
/// impl SimpleHandler for Clicks {
///     type Body = i64;
///
///     fn name(&self) -> &'static str {
///         "clicks"
///     }
///
///     fn decode(&self, record: &Record) -> Result<Decoded<i64>, Rejection> {
///         let text = String::from_utf8_lossy(record.value.as_deref().unwrap_or_default());
///         let number = text.trim().parse().map_err(|error| Rejection::Poison(Cause::from_error("not-a-number", &error)))?;
///         let (id, event_type) = (record.place_id(), "CLICK".to_owned());
///         Ok(Decoded::Event(Event { id, event_type, correlation_id: String::new(), body: number }))
///     }
///
///     async fn handle(&self, tx: &Transaction<'_>, _: &Attempt, clicks: &i64) -> Result<Vec<Emit>, HandleError> {
///         let sql = tx.prepare_cached("UPDATE clicks SET count = count + $1").await?;
///         tx.execute(&sql, &[clicks]).await?;
///         Ok(Vec::new())
///     }
/// }
/// ```
///
/// Started by `Group::start(settings, Simple(Clicks), deps)`.
pub trait SimpleHandler: Send + Sync + 'static {
    /// The decoded body of an event.
    type Body: Send + Sync;

    /// Names the handler in dead letters: what an operator would look for in the code.
    fn name(&self) -> &'static str;

    /// Turns a record with a non-empty body into an event. Never called for a tombstone (ignored) or an empty value
    /// (poison).
    ///
    /// # Errors
    /// What cannot be read is dead at once.
    fn decode(&self, record: &Record) -> Result<Decoded<Self::Body>, Rejection>;

    /// Does what the event asks for with `tx`, and answers with what is to be published, in order, after the commit.
    ///
    /// The transaction is the batch's, and the runtime ends it; savepoints named `event` are the runtime's too. It holds its locks
    /// until the batch ends, so nothing slow and no other system belongs here: for those there is [`Handler::prepare`]. Events that
    /// change the same rows from several partitions may deadlock with each other; such a batch is done again and nothing counts.
    ///
    /// A statement that failed has failed the event, also where its error is not passed on (`error-swallowed`): where a conflict is
    /// expected, say `ON CONFLICT`.
    ///
    /// Called more than once for an event whose batch is rolled back; what it wrote is kept once.
    ///
    /// # Errors
    /// An event that fails is parked or dead, what it has written is undone, and the others of its batch go on. `?` takes errors
    /// of PostgreSQL as they are.
    fn handle(
        &self,
        tx: &Transaction<'_>,
        attempt: &Attempt,
        body: &Self::Body,
    ) -> impl Future<Output = Result<Vec<Emit>, HandleError>> + Send;
}

/// A [`SimpleHandler`] as a [`Handler`].
#[derive(Clone, Copy, Debug)]
pub struct Simple<S>(
    /// The handler.
    pub S,
);

/// An event's body, with what stands for its key.
#[derive(Debug)]
pub struct Keyed<B> {
    body: B,
    key: u64,
}

impl<S: SimpleHandler> OneByOne<Keyed<S::Body>> for Simple<S> {
    fn handle<'a>(
        &'a self,
        tx: &'a Transaction<'a>,
        attempt: &'a Attempt,
        body: &'a Keyed<S::Body>,
    ) -> Handling<'a> {
        Box::pin(self.0.handle(tx, attempt, &body.body))
    }
}

impl<S: SimpleHandler> Handler for Simple<S> {
    type Body = Keyed<S::Body>;
    /// Tells keys apart, for the circuit; no state belongs to it.
    type Key = u64;
    type State = ();
    type Shared = ();
    type Prepared = ();

    fn name(&self) -> &'static str {
        self.0.name()
    }

    fn decode(&self, record: &Record) -> Result<Decoded<Self::Body>, Rejection> {
        Ok(match self.0.decode(record)? {
            Decoded::Ignored => Decoded::Ignored,
            Decoded::Event(Event { id, event_type, correlation_id, body }) => {
                let mut key = DefaultHasher::new();
                match &record.key {
                    Some(bytes) => bytes.hash(&mut key),
                    None => id.hash(&mut key),
                }
                let body = Keyed { body, key: key.finish() };
                Decoded::Event(Event { id, event_type, correlation_id, body })
            }
        })
    }

    fn key(&self, body: &Self::Body) -> u64 {
        body.key
    }

    async fn load<C: GenericClient>(&self, _: &C, _: &[u64], _: Lock) -> LoadResult<Self> {
        Ok(Loaded::new([].into(), ()))
    }

    fn decide(
        &self,
        _: &Attempt,
        _: &Self::Body,
        _: Option<&()>,
        (): &mut (),
        _: Option<&()>,
    ) -> Result<Decision<()>, Failure> {
        Ok(Decision::nothing())
    }

    async fn save<C: GenericClient>(&self, _: &C, _: Vec<(u64, ())>, (): ()) -> SaveResult<Self> {
        Ok(())
    }

    fn one_by_one(&self) -> Option<&dyn OneByOne<Self::Body>> {
        Some(self)
    }
}
