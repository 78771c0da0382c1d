//! What the simulated provider remembers: every charge, and what was given back.
//!
//! A real provider keeps this list on servers of its own, and its requests are what payments sees of it. Here it is a schema of its own,
//! reached by connections of its own, outside all transactions of the service.

use std::{
    collections::{HashSet, VecDeque},
    sync::Arc,
};

use actors::connection::{Connection, Limits, Trouble};
use chrono::{DateTime, Utc};
use deadpool_postgres::Pool;
use parking_lot::Mutex;
use tokio::sync::oneshot::{self, error::TryRecvError};
use tokio_postgres::{Error, Row, types::ToSql};

use super::{ProviderError, Reference, VoidAnswer};

/// A charge as the provider lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedCharge {
    /// The idempotency key it was asked with.
    pub key: String,
    /// How much, in cents.
    pub amount_cents: i64,
    /// The provider's name for it.
    pub reference: Reference,
    /// When it was made, or given back.
    pub changed_at: DateTime<Utc>,
    /// The provider's name for the refund, if it was given back, all of it.
    pub refund: Option<Reference>,
}

/// Charges noted together.
const BATCH: usize = 500;

/// The list. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Book {
    pool: Pool,
    charges: Arc<Charges>,
}

/// Charges that are to be noted. Whoever has the turn notes what all of them wait for, in one statement.
#[derive(Debug, Default)]
struct Charges {
    waiting: Mutex<VecDeque<Asked>>,
    turn: tokio::sync::Mutex<()>,
}

#[derive(Debug)]
struct Asked {
    key: String,
    amount_cents: i64,
    reference: String,
    reply: oneshot::Sender<Result<bool, ProviderError>>,
}

impl Book {
    /// A list in this database, which has the service's migrations.
    pub fn new(pool: Pool) -> Self {
        Self { pool, charges: Arc::default() }
    }

    /// Notes a charge; false where its key was voided before. A charge that is there already stays as it is.
    pub(super) async fn charge(
        &self,
        key: &str,
        amount_cents: i64,
        reference: &Reference,
    ) -> Result<bool, ProviderError> {
        let (reply, mut answer) = oneshot::channel();
        let (key, reference) = (key.to_owned(), reference.to_string());
        self.charges.waiting.lock().push_back(Asked { key, amount_cents, reference, reply });
        loop {
            let _turn = self.charges.turn.lock().await;
            match answer.try_recv() {
                Ok(answered) => return answered,
                // Whoever had it in hand was not waited for.
                Err(TryRecvError::Closed) => return Err(gone(&"the request was given up")),
                Err(TryRecvError::Empty) => {
                    let asked: Vec<Asked> = {
                        let mut waiting = self.charges.waiting.lock();
                        let some = waiting.len().min(BATCH);
                        waiting.drain(..some).collect()
                    };
                    self.note(asked).await;
                }
            }
        }
    }

    /// Notes charges, and tells everybody.
    async fn note(&self, mut asked: Vec<Asked>) {
        // In one order, so that two processes do not lock each other out.
        asked.sort_unstable_by(|a, b| a.key.cmp(&b.key));
        let noted = self.noted(&asked).await;
        for Asked { key, reply, .. } in asked {
            let answer = noted.as_ref().map(|voided| !voided.contains(&key)).map_err(Clone::clone);
            // Whoever has gone meanwhile asks again.
            let _gone = reply.send(answer);
        }
    }

    /// The keys among them that were voided before.
    async fn noted(&self, asked: &[Asked]) -> Result<HashSet<String>, ProviderError> {
        const NOTE: &str = "
            insert into provider.charges (key, amount_cents, reference, charged_at)
            select key, amount_cents, reference, clock_timestamp()
            from unnest($1::text[], $2::bigint[], $3::text[]) as new (key, amount_cents, reference)
            on conflict (key) do nothing";
        // A statement of its own, which sees what the one before has waited for.
        const VOIDED: &str = "select key from provider.charges where key = any($1) and amount_cents is null";
        let keys: Vec<&str> = asked.iter().map(|asked| asked.key.as_str()).collect();
        let amounts: Vec<i64> = asked.iter().map(|asked| asked.amount_cents).collect();
        let references: Vec<&str> = asked.iter().map(|asked| asked.reference.as_str()).collect();
        let noting = async {
            let connection = Connection::get(&self.pool).await?;
            let noted = async {
                let statement = connection.prepare_cached(NOTE).await?;
                let noted = connection.execute(&statement, &[&keys, &amounts, &references]).await?;
                if usize::try_from(noted) == Ok(asked.len()) {
                    // Nearly always.
                    return Ok(HashSet::new());
                }
                let statement = connection.prepare_cached(VOIDED).await?;
                let rows = connection.query(&statement, &[&keys]).await?;
                rows.iter().map(|row| row.try_get(0)).collect()
            };
            connection.write(&Limits::default(), noted).await
        };
        noting.await.map_err(|trouble: Trouble| gone(&trouble.cause()))
    }

    /// Notes that a charge went back. One of which nothing is known was made before there was a list: it is noted, too.
    pub(super) async fn refund(
        &self,
        charge_key: &str,
        amount_cents: i64,
        charge: &Reference,
        refund: &Reference,
    ) -> Result<(), ProviderError> {
        const SQL: &str = "
            insert into provider.charges as old (key, amount_cents, reference, charged_at, refund_reference, refunded_at)
            values ($1, $2, $3, clock_timestamp(), $4, clock_timestamp())
            on conflict (key) do update set refund_reference = $4, refunded_at = clock_timestamp()
            where old.refunded_at is null and old.amount_cents is not null";
        self.ask(SQL, &[&charge_key, &amount_cents, &charge.as_str(), &refund.as_str()]).await.map(drop)
    }

    /// Gives back what was charged with a key, and closes it to charges that are still on their way.
    pub(super) async fn void(
        &self,
        charge_key: &str,
        refund: &Reference,
    ) -> Result<VoidAnswer, ProviderError> {
        const SQL: &str = "
            insert into provider.charges as old (key) values ($1)
            on conflict (key) do update
            set refund_reference = case when old.amount_cents is null then null else coalesce(old.refund_reference, $2) end,
                refunded_at = case when old.amount_cents is null then null else coalesce(old.refunded_at, clock_timestamp()) end
            returning amount_cents, reference, refund_reference";
        let rows = self.ask(SQL, &[&charge_key, &refund.as_str()]).await?;
        let answer = |row: &Row| {
            let (amount, charge, refund) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
            let charged: Option<(i64, (String, String))> =
                Option::<i64>::zip(amount, Option::<String>::zip(charge, refund));
            Ok(charged.map_or(VoidAnswer::Nothing, |(amount_cents, (charge, refund))| VoidAnswer::Returned {
                amount_cents,
                charge: Reference::new(charge),
                refund: Reference::new(refund),
            }))
        };
        rows.first().map_or(Ok(VoidAnswer::Nothing), answer).map_err(|error: Error| gone(&error))
    }

    /// Charges whose keys come after `after`, in the order of their keys.
    pub(super) async fn list(&self, after: &str, limit: i64) -> Result<Vec<ListedCharge>, ProviderError> {
        const SQL: &str = "
            select key, amount_cents, reference, coalesce(refunded_at, charged_at), refund_reference from provider.charges
            where key > $1 and amount_cents is not null order by key limit $2";
        let rows = self.ask(SQL, &[&after, &limit]).await?;
        let listed = |row: &Row| {
            Ok(ListedCharge {
                key: row.try_get(0)?,
                amount_cents: row.try_get(1)?,
                reference: Reference::new(row.try_get::<_, String>(2)?),
                changed_at: row.try_get(3)?,
                refund: row.try_get::<_, Option<String>>(4)?.map(Reference::new),
            })
        };
        rows.iter().map(listed).collect::<Result<_, Error>>().map_err(|error| gone(&error))
    }

    async fn ask(
        &self,
        sql: &'static str,
        values: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, ProviderError> {
        let asked = async {
            let connection = Connection::get(&self.pool).await?;
            let answer = async {
                let statement = connection.prepare_cached(sql).await?;
                connection.query(&statement, values).await
            };
            connection.write(&Limits::default(), answer).await
        };
        asked.await.map_err(|trouble: Trouble| gone(&trouble.cause()))
    }
}

/// Its server is away: no payment's fault.
fn gone(error: &dyn std::fmt::Display) -> ProviderError {
    let message = format!("the payment provider cannot be reached: {error}");
    ProviderError::Unreachable { code: "provider-unreachable", message }
}
