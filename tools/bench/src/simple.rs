//! The runtime, with a handler that takes its events one by one.

use actors::{Attempt, Decoded, Emit, HandleError, Record, Rejection, SimpleHandler};
use deadpool_postgres::Transaction;

use crate::{
    event::Event,
    runtime::{decode, emit, event},
};

/// Adds each event to its key's total, by a statement of its own.
pub(crate) struct OneByOne {
    pub(crate) out: String,
}

impl SimpleHandler for OneByOne {
    type Body = Event;

    fn name(&self) -> &'static str {
        "bench::simple::OneByOne"
    }

    fn decode(&self, record: &Record) -> Result<Decoded<Event>, Rejection> {
        Ok(Decoded::Event(event(decode(record)?)))
    }

    async fn handle(
        &self,
        tx: &Transaction<'_>,
        _: &Attempt,
        body: &Event,
    ) -> Result<Vec<Emit>, HandleError> {
        let sql = "insert into totals (key, events, amount) values ($1, 1, $2)
                   on conflict (key) do update set events = totals.events + 1, amount = totals.amount + excluded.amount";
        tx.execute(&tx.prepare_cached(sql).await?, &[&body.key.cast_signed(), &body.amount]).await?;
        Ok(vec![emit(&self.out, body)])
    }
}
