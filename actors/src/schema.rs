//! The runtime's tables.

mod embedded {
    refinery::embed_migrations!("migrations");
}

/// Where it is noted which of the runtime's migrations a database has.
pub const HISTORY: &str = "runtime_migrations";

/// The migrations that make the runtime's tables in a service's database, in the order of their numbers, noted in [`HISTORY`]. Two
/// processes must not run them on one database at the same time: hold an advisory lock.
///
/// ```no_run
/// # async fn example(client: &mut tokio_postgres::Client) -> Result<(), Box<dyn std::error::Error>> {
/// client.execute("SELECT pg_advisory_lock($1)", &[&4711_i64]).await?;
/// let made = actors::migrations().run_async(client).await;
/// client.execute("SELECT pg_advisory_unlock($1)", &[&4711_i64]).await?;
/// made?;
/// # Ok(())
/// # }
/// ```
pub fn migrations() -> refinery::Runner {
    // During a deploy an old version starts beside a new one: it finds migrations that it does not know.
    let mut runner = embedded::migrations::runner().set_abort_missing(false);
    runner.set_migration_table_name(HISTORY);
    runner
}
