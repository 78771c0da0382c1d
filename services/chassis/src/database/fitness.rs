//! Whether the database, and whatever is between, keeps to what the delivery protocol rests on.
//!
//! A guard that is set and not verified is none: a pooler may lose limits and prepared statements, a server may be set up to lose
//! what it has committed, and a standby takes no writes. All of it is asked for before anything is joined.

use std::{collections::HashMap, time::Duration};

use actors::{
    Cause,
    connection::{Limits, Trouble},
};
use deadpool_postgres::{Client, Pool};
use tokio_postgres::{Error, SimpleQueryMessage, error::SqlState};

/// A database that has not answered all of it by then is not fit either.
const LIMIT: Duration = Duration::from_secs(10);

/// A pooler may give the connection that prepared a statement by chance: asked more than once.
const ROUNDS: usize = 3;

/// Why the database is not fit, in words.
pub(super) async fn check(pool: &Pool, limits: &Limits) -> Result<(), String> {
    let checks = async {
        let client = connection(pool).await?;
        let settings = settings(&client, limits).await.map_err(|error| {
            let error = text(&error);
            format!("a transaction with limits of its own does not work ({error}); a pooler has to pool by session or transaction")
        })?;
        compare(&settings, limits)?;
        prepared(pool, &client).await
    };
    match tokio::time::timeout(LIMIT, checks).await {
        Ok(checked) => checked,
        Err(_) => Err(format!(
            "it did not answer within {} s; behind a pooler, two transactions must be able to run at the same time",
            LIMIT.as_secs()
        )),
    }
}

async fn connection(pool: &Pool) -> Result<Client, String> {
    pool.get().await.map_err(|error| Trouble::NoConnection(error).cause().message)
}

fn text(error: &Error) -> String {
    Cause::from_error("postgresql", error).message
}

/// What the server says of itself, in a transaction with limits. Milliseconds where it is a time.
async fn settings(client: &Client, limits: &Limits) -> Result<HashMap<String, String>, Error> {
    const ASK: &str = "select name, setting from pg_settings where name in ('statement_timeout', 'lock_timeout',
        'idle_in_transaction_session_timeout', 'synchronous_commit', 'fsync', 'full_page_writes', 'transaction_read_only',
        'server_encoding')";
    client.batch_execute(&format!("begin; {}", limits.set())).await?;
    let rows = client.simple_query(ASK).await?;
    client.batch_execute("commit").await?;
    let pair = |row: &SimpleQueryMessage| match row {
        SimpleQueryMessage::Row(row) => Some((row.get(0)?.to_owned(), row.get(1)?.to_owned())),
        _ => None,
    };
    Ok(rows.iter().filter_map(pair).collect())
}

fn compare(settings: &HashMap<String, String>, limits: &Limits) -> Result<(), String> {
    let says = |name: &str| settings.get(name).map_or("nothing", String::as_str);
    for (name, wanted) in [
        ("statement_timeout", limits.statement),
        ("lock_timeout", limits.lock),
        ("idle_in_transaction_session_timeout", limits.idle),
    ] {
        if says(name) != wanted.as_millis().to_string() {
            return Err(format!(
                "it does not keep {name}: {} ms were set in a transaction, and it says {}; is there a pooler between?",
                wanted.as_millis(),
                says(name)
            ));
        }
    }
    for name in ["synchronous_commit", "fsync", "full_page_writes"] {
        if says(name) == "off" {
            return Err(format!(
                "{name} is off: after a crash it may lack what it has committed, and events would be lost; set it to on"
            ));
        }
    }
    if says("transaction_read_only") == "on" {
        return Err("it takes no writes: a standby, or a primary that was demoted".to_owned());
    }
    if says("server_encoding") != "UTF8" {
        return Err(format!("its encoding is {}; make it with encoding UTF8", says("server_encoding")));
    }
    Ok(())
}

/// Whether a statement that was prepared can be used in later transactions, with others under way beside it.
async fn prepared(pool: &Pool, client: &Client) -> Result<(), String> {
    let lost = |error: Error| {
        let stale = [SqlState::INVALID_SQL_STATEMENT_NAME, SqlState::DUPLICATE_PSTATEMENT];
        let error_text = text(&error);
        if error.code().is_some_and(|code| stale.contains(code)) {
            format!(
                "prepared statements do not last from one transaction to the next ({error_text}): a pooler between has to pool by \
                 session, or to support them (PgBouncer from 1.21 on, with max_prepared_statements)"
            )
        } else {
            format!("prepared statements do not work: {error_text}")
        }
    };
    let statement = client.prepare("select $1::int4 + 1").await.map_err(lost)?;
    for round in 0..ROUNDS {
        // It holds what a pooler has at hand, so that the next transaction gets another.
        let beside = if pool.status().max_size > 1 { Some(connection(pool).await?) } else { None };
        if let Some(beside) = &beside {
            beside.batch_execute("begin").await.map_err(lost)?;
            let of_its_own = beside.prepare("select $1::text || 'x'").await.map_err(lost)?;
            beside.query_one(&of_its_own, &[&"x"]).await.map_err(lost)?;
        }
        let number = i32::try_from(round).unwrap_or(0);
        let sum: i32 = client.query_one(&statement, &[&number]).await.map_err(lost)?.get(0);
        if sum != number + 1 {
            return Err(
                "another statement ran than the one that was prepared; is there a pooler between?".to_owned()
            );
        }
        if let Some(beside) = &beside {
            beside.batch_execute("rollback").await.map_err(lost)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
