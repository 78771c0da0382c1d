//! What a service implements.

use std::{collections::HashMap, fmt, future::Future, hash::Hash};

use deadpool_postgres::GenericClient;

use crate::{
    event::{Attempt, Death, Decision, Decoded, Emit},
    failure::{Cause, Failure, Rejection},
    one_by_one::OneByOne,
    record::Record,
};

/// What [`Handler::load`] found.
///
/// ```
/// use actors::{Cause, Loaded};
///
/// let mut loaded = Loaded::new([("alice", 3)].into(), ());
/// // A row of bob's that no code of ours has written: his events die, alice's go on.
/// loaded.unreadable.insert("bob", Cause::new("row", "its row in visits holds what none may"));
/// ```
#[derive(Debug)]
pub struct Loaded<K, S, Shared> {
    /// The states of the keys that have one.
    pub states: HashMap<K, S>,
    /// Keys whose state is there and cannot be read, and why: their events die, with code `unreadable-state`, and those of other
    /// keys go on. For rows that are wrong in themselves; where the table does not fit the code, `load` fails.
    pub unreadable: HashMap<K, Cause>,
    /// Rows that events of several keys share.
    pub shared: Shared,
}

impl<K, S, Shared> Loaded<K, S, Shared> {
    /// All of it could be read.
    pub fn new(states: HashMap<K, S>, shared: Shared) -> Self {
        Self { states, unreadable: HashMap::new(), shared }
    }
}

/// What [`Handler::load`] gives.
pub type LoadResult<H> =
    Result<Loaded<<H as Handler>::Key, <H as Handler>::State, <H as Handler>::Shared>, tokio_postgres::Error>;

/// Why [`Handler::save`] or [`Handler::delete`] did not write what changed.
///
/// ```
/// use actors::{Failure, SaveError};
///
/// /// More than a row may hold is the fault of whoever's row it is.
/// fn check(changed: &[(String, Vec<u8>)]) -> Result<(), SaveError<String>> {
///     let too_large = changed.iter().filter(|(_, picture)| picture.len() > 1 << 20);
///     let failure = |guest: &String| (guest.clone(), Failure::permanent("too-large", "the picture has more than 1 MiB"));
///     let keys: std::collections::HashMap<_, _> = too_large.map(|(guest, _)| failure(guest)).collect();
///     if keys.is_empty() { Ok(()) } else { Err(SaveError::Keys(keys)) }
/// }
/// assert!(check(&[("alice".to_owned(), vec![0; 2 << 20])]).is_err());
/// ```
#[derive(Debug)]
pub enum SaveError<K> {
    /// PostgreSQL said no. A value's fault is one event's, which is looked for and dies alone; a server's is waited out; that of a
    /// table which does not fit halts the partition.
    Sql(tokio_postgres::Error),
    /// The states of these keys cannot be written, each for its reason: their events fail so, and those of other keys go on as
    /// if they had not been there. What was written before is rolled back.
    Keys(HashMap<K, Failure>),
}

impl<K> From<tokio_postgres::Error> for SaveError<K> {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Sql(error)
    }
}

impl<K> fmt::Display for SaveError<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sql(error) => error.fmt(f),
            Self::Keys(keys) => write!(f, "the states of {} keys cannot be written", keys.len()),
        }
    }
}

impl<K: fmt::Debug> std::error::Error for SaveError<K> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Sql(error) => std::error::Error::source(error),
            Self::Keys(_) => None,
        }
    }
}

/// What [`Handler::save`] and [`Handler::delete`] give.
pub type SaveResult<H> = Result<(), SaveError<<H as Handler>::Key>>;

/// Whether [`Handler::load`] locks what it reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lock {
    /// Before `prepare`: the last committed state, not locked.
    None,
    /// In the batch transaction: `FOR UPDATE`, in the order of the keys.
    ForUpdate,
}

/// What a service implements.
///
/// A batch of records passes through these functions, each allowed one thing:
///
/// | step | may | may not |
/// |---|---|---|
/// | [`Handler::decode`] | read bytes | await, decide |
/// | [`Handler::load`] | read rows, lock them when told to | write |
/// | [`Handler::prepare`] | call other systems, idempotently and with a time-out | touch the database |
/// | [`Handler::decide`] | compute | await, read a clock |
/// | [`Handler::save`], [`Handler::delete`] | write rows | decide |
///
/// The runtime calls `load` without locks, then `prepare` for each event that asks for it (keys side by side, events of
/// one key in order), then opens the one transaction in which it calls `load` with locks, `decide` for each event in
/// offset order, and `delete` and `save` once. Everything a handler does in the transaction happens exactly once; what `prepare`
/// does may happen more than once and must therefore be idempotent. A transaction that is rolled back is done again from `load`
/// on, with `decide`.
///
/// **Two keys, and what each orders.** Records of one *record key* are in one partition, and wait behind each other while one of them is
/// retried. [`Handler::key`] names the *state* that an event changes: what is loaded, locked and saved. Let the state follow from the
/// record key (an order's events are keyed by the order's id), and its events have one order. Where they differ, events of one state
/// may come from several partitions: they still take turns, by the lock on its row, but in no promised order, and a retried one does
/// not hold the others back.
///
/// `examples/counter.rs` is a whole service. Who does not need sets has [`SimpleHandler`](crate::SimpleHandler).
///
/// ```
/// use actors::{
///     Attempt, Cause, Decision, Decoded, Event, Failure, Handler, LoadResult, Loaded, Lock, Record, Rejection, SaveResult,
/// };
/// use deadpool_postgres::GenericClient;
///
/// /// Counts the visits of each guest.
/// struct Visits;
///
/// impl Handler for Visits {
///     type Body = String;
///     type Key = String;
///     type State = i64;
///     type Shared = ();
///     type Prepared = ();
///
///     fn name(&self) -> &'static str {
///         "visits"
///     }
///
///     fn decode(&self, record: &Record) -> Result<Decoded<String>, Rejection> {
///         let body = String::from_utf8(record.value.as_deref().unwrap_or_default().to_vec())
///             .map_err(|error| Rejection::Poison(Cause::from_error("not-utf-8", &error)))?;
///         let (id, event_type) = (record.place_id(), "VISIT".to_owned());
///         Ok(Decoded::Event(Event { id, event_type, correlation_id: String::new(), body }))
///     }
///
///     fn key(&self, guest: &String) -> String {
///         guest.clone()
///     }
///
///     async fn load<C: GenericClient>(&self, client: &C, guests: &[String], lock: Lock) -> LoadResult<Self> {
///         let sql = match lock {
///             Lock::None => "SELECT guest, visits FROM visits WHERE guest = ANY ($1)",
///             Lock::ForUpdate => "SELECT guest, visits FROM visits WHERE guest = ANY ($1) ORDER BY guest FOR UPDATE",
///         };
///         let rows = client.query(&client.prepare_cached(sql).await?, &[&guests]).await?;
///         let mut loaded = Loaded::new([].into(), ());
///         for row in rows {
///             loaded.states.insert(row.try_get(0)?, row.try_get(1)?);
///         }
///         Ok(loaded)
///     }
///
///     fn decide(
///         &self,
///         _: &Attempt,
///         _guest: &String,
///         visits: Option<&i64>,
///         (): &mut (),
///         _: Option<&()>,
///     ) -> Result<Decision<i64>, Failure> {
///         Ok(Decision::save(visits.unwrap_or(&0) + 1))
///     }
///
///     async fn save<C: GenericClient>(&self, client: &C, changed: Vec<(String, i64)>, (): ()) -> SaveResult<Self> {
///         let sql = "INSERT INTO visits SELECT * FROM unnest ($1::text[], $2::bigint[])
///                    ON CONFLICT (guest) DO UPDATE SET visits = excluded.visits";
///         let (guests, visits): (Vec<String>, Vec<i64>) = changed.into_iter().unzip();
///         client.execute(&client.prepare_cached(sql).await?, &[&guests, &visits]).await?;
///         Ok(())
///     }
/// }
/// ```
pub trait Handler: Send + Sync + 'static {
    /// The decoded body of an event.
    type Body: Send + Sync;
    /// What names a state: the aggregate's id. Its order is the order locks are taken in.
    type Key: Clone + Eq + Hash + Ord + Send + Sync;
    /// The state of one key.
    type State: Send + Sync;
    /// Rows shared by events of several keys, locked after the states, in the order of their ids. `()` for most.
    type Shared: Send + Sync;
    /// What [`Handler::prepare`] brought back. `()` for handlers without external effects.
    type Prepared: Send + Sync;

    /// Names the handler in dead letters: what an operator would look for in the code.
    fn name(&self) -> &'static str;

    /// Turns a record with a non-empty body into an event. Never called for a tombstone (ignored) or an empty value
    /// (poison).
    fn decode(&self, record: &Record) -> Result<Decoded<Self::Body>, Rejection>;

    /// The state that an event changes.
    fn key(&self, body: &Self::Body) -> Self::Key;

    /// Whether this event needs [`Handler::prepare`]. One that does is never in a batch behind another of its key: the batch
    /// ends before it, so that its `prepare` sees what they committed.
    fn needs_prepare(&self, _body: &Self::Body) -> bool {
        false
    }

    /// The external effect of one event: idempotent, with a time-out of its own. `state` is the last committed one.
    /// Called only where [`Handler::needs_prepare`] says so. A call that takes its time goes on while its batch is committed
    /// without its event, which is handled once there is an answer.
    ///
    /// Not needed by handlers that call nobody: the default is a permanent failure of whatever asks for it.
    fn prepare(
        &self,
        _attempt: &Attempt,
        _body: &Self::Body,
        _state: Option<&Self::State>,
    ) -> impl Future<Output = Result<Self::Prepared, Failure>> + Send {
        let message = format!("{} asks for prepare and has none", self.name());
        std::future::ready(Err(Failure::permanent("no-prepare", message)))
    }

    /// Reads the states of `keys` (sorted, distinct) in one statement, and what they share. Use `prepare_cached`: it is
    /// called for every batch.
    fn load<C: GenericClient>(
        &self,
        client: &C,
        keys: &[Self::Key],
        lock: Lock,
    ) -> impl Future<Output = LoadResult<Self>> + Send;

    /// Decides what the event changes. Pure: the same arguments give the same answer. On `Err`, `shared` must be as it
    /// was. `prepared` is `None` where the event did not ask for `prepare`. Called again when its batch is rolled back.
    fn decide(
        &self,
        attempt: &Attempt,
        body: &Self::Body,
        state: Option<&Self::State>,
        shared: &mut Self::Shared,
        prepared: Option<&Self::Prepared>,
    ) -> Result<Decision<Self::State>, Failure>;

    /// Writes the changed states, one per key, and the shared rows, set-based.
    ///
    /// # Errors
    /// See [`SaveError`], which `?` makes of an error of PostgreSQL's.
    fn save<C: GenericClient>(
        &self,
        client: &C,
        changed: Vec<(Self::Key, Self::State)>,
        shared: Self::Shared,
    ) -> impl Future<Output = SaveResult<Self>> + Send;

    /// Deletes the states of `keys`, in one statement, before [`Handler::save`].
    ///
    /// Not needed by handlers that never answer [`Change::Delete`](crate::Change::Delete): the default fails each key for ever.
    ///
    /// # Errors
    /// See [`SaveError`].
    fn delete<C: GenericClient>(
        &self,
        _client: &C,
        keys: &[Self::Key],
    ) -> impl Future<Output = SaveResult<Self>> + Send {
        let cause = Cause::new("no-delete", format!("{} deletes a state and has no delete", self.name()));
        let failure = Failure::Permanent(cause);
        let keys = keys.iter().map(|key| (key.clone(), failure.clone())).collect();
        std::future::ready(Err(SaveError::Keys(keys)))
    }

    /// Whether the retries of this event end in a dead letter when its time is over. One that must not be given up, as money that has
    /// to go back, is tried for as long as it fails with [`Failure::Transient`]; `/parked` shows it, and an operator may end it.
    fn gives_up(&self, _body: &Self::Body) -> bool {
        true
    }

    /// What is to be published of an event's death, in the transaction that writes its dead letter: so that whoever waits for what
    /// would have come of it learns that it will not, for now. Pure. Of a record that cannot be decoded nothing is known.
    fn buried(&self, _body: &Self::Body, _death: &Death<'_>) -> Vec<Emit> {
        Vec::new()
    }

    /// How a [`SimpleHandler`](crate::SimpleHandler) stands in for all of it.
    #[doc(hidden)]
    fn one_by_one(&self) -> Option<&dyn OneByOne<Self::Body>> {
        None
    }
}
