//! How the pipeline hands over single events.

use std::{future::Future, pin::Pin};

use deadpool_postgres::Transaction;

use crate::{
    event::{Attempt, Emit},
    failure::Failure,
};

/// Why an event was not handled. `?` makes one of a [`Failure`], and of what PostgreSQL says.
///
/// ```
/// use actors::{Failure, HandleError};
/// use deadpool_postgres::Transaction;
///
/// async fn take(tx: &Transaction<'_>, seat: &str) -> Result<(), HandleError> {
///     let taken = tx.execute("UPDATE seats SET free = false WHERE seat = $1 AND free", &[&seat]).await?;
///     match taken {
///         1 => Ok(()),
///         _ => Err(Failure::permanent("seat-taken", "the seat is taken or is none"))?,
///     }
/// }
/// ```
#[derive(Debug)]
pub enum HandleError {
    /// The event's own failure, of whichever kind.
    Failure(Failure),
    /// PostgreSQL said no, or its answer is another than the code expects: a value's fault is this event's, for ever; where
    /// `query_one` does not get its one row the event is tried again; a server's fault is waited out; that of a table or a type which does not fit halts the
    /// partition.
    Sql(tokio_postgres::Error),
}

impl From<Failure> for HandleError {
    fn from(failure: Failure) -> Self {
        Self::Failure(failure)
    }
}

impl From<tokio_postgres::Error> for HandleError {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Sql(error)
    }
}

/// What comes of handling one event.
pub(crate) type Handling<'a> = Pin<Box<dyn Future<Output = Result<Vec<Emit>, HandleError>> + Send + 'a>>;

/// A handler that the runtime calls for each event.
pub trait OneByOne<B>: Send + Sync {
    /// See [`SimpleHandler::handle`](crate::SimpleHandler::handle).
    fn handle<'a>(&'a self, tx: &'a Transaction<'a>, attempt: &'a Attempt, body: &'a B) -> Handling<'a>;
}
