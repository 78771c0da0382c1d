//! What all ways do with an event, and what can be read from it afterwards.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Result;
use deadpool_postgres::{GenericClient, Pool};
use tokio_postgres::Error;

use super::load::Event;

/// Microseconds since the Unix epoch.
pub(crate) fn now_us() -> Result<i64> {
    Ok(i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_micros())?)
}

/// A database with the keys, and a table in which events are noted in the order in which they take effect.
pub(crate) async fn database(keys: u32) -> Result<Pool> {
    let pool = crate::servers::database().await?;
    let tables = format!(
        "create table keys (key integer primary key);
         insert into keys select generate_series(0, {keys} - 1);
         create table effects (at bigint generated always as identity primary key, key integer not null,
                               seq integer not null, fails integer not null, sent_us bigint not null,
                               applied_at timestamptz not null default clock_timestamp());"
    );
    pool.get().await?.batch_execute(&tables).await?;
    Ok(pool)
}

/// Locks the rows of `keys`: effects of one key are noted one after the other, whoever applies them.
pub(crate) async fn lock<C: GenericClient>(client: &C, keys: &[i32]) -> Result<(), Error> {
    let sql = "select from keys where key = any ($1) order by key for update";
    client.execute(&client.prepare_cached(sql).await?, &[&keys]).await.map(drop)
}

/// Notes the events' effects, in their order.
pub(crate) async fn apply<C: GenericClient>(client: &C, events: &[Event]) -> Result<(), Error> {
    let sql = "insert into effects (key, seq, fails, sent_us)
               select key, seq, fails, sent_us
               from unnest($1::integer[], $2::integer[], $3::integer[], $4::bigint[])
                    with ordinality as e (key, seq, fails, sent_us, n) order by n";
    let column = |of: fn(&Event) -> u32| -> Vec<i32> { events.iter().map(|e| of(e).cast_signed()).collect() };
    let (keys, seqs, fails) = (column(|e| e.key), column(|e| e.seq), column(|e| e.fails));
    let sent: Vec<i64> = events.iter().map(|event| event.sent_us).collect();
    let statement = client.prepare_cached(sql).await?;
    client.execute(&statement, &[&keys, &seqs, &fails, &sent]).await.map(drop)
}

/// Effects so far.
pub(crate) async fn applied(pool: &Pool) -> Result<i64> {
    Ok(pool.get().await?.query_one("select count(*) from effects", &[]).await?.get(0))
}

/// Records that were parked, by the journal.
pub(crate) async fn parked(pool: &Pool) -> Result<i64> {
    let sql = "select coalesce(sum(run[1]::bigint), 0)::bigint
               from offset_journal, regexp_matches(outcomes, 'p(\\d+)', 'g') as run";
    Ok(pool.get().await?.query_one(sql, &[]).await?.get(0))
}

/// What became of the order, and how long it took.
#[derive(Debug)]
pub(crate) struct Order {
    pub(crate) applied: i64,
    pub(crate) distinct: i64,
    /// Keys of which an event took effect after a later one, among how many.
    pub(crate) keys: (i64, i64),
    /// Events that took effect after a later one of their key.
    pub(crate) late: i64,
    /// From the first event's sending to the last one's effect.
    pub(crate) seconds: f64,
    /// From sending to effect in milliseconds, p50 and p99: events of keys of which none ever failed,
    pub(crate) quiet_ms: [f64; 2],
    /// events of the other keys that did not fail themselves, so that what they took is what they waited for,
    pub(crate) behind_ms: [f64; 2],
    /// and those that failed.
    pub(crate) failed_ms: [f64; 2],
}

/// Asks the table. `failing` are the keys of which an event fails; latencies are those of events that were sent `warm` after the
/// beginning.
pub(crate) async fn order(pool: &Pool, began_us: i64, warm: Duration, failing: &[i32]) -> Result<Order> {
    let client = pool.get().await?;
    let sql = "with followed as (
                   select key, seq, max(seq) over (partition by key order by at rows between unbounded preceding
                                                   and 1 preceding) as latest from effects)
               select count(*), count(distinct (key, seq)), count(distinct key) filter (where seq < latest),
                      count(distinct key), count(*) filter (where seq < latest),
                      (select extract(epoch from max(applied_at))::float8 from effects)
               from followed";
    let row = client.query_one(sql, &[]).await?;
    let ended: f64 = row.get(5);
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    let began = began_us as f64 / 1e6;
    let sql = "with took as (select fails > 0 as failed, key = any ($1) as hit,
                                    extract(epoch from applied_at)::float8 * 1e3 - sent_us / 1e3 as ms
                             from effects where sent_us >= $2)
               select coalesce(percentile_disc(array[0.5, 0.99]) within group (order by ms) filter (where not hit), '{0,0}'),
                      coalesce(percentile_disc(array[0.5, 0.99]) within group (order by ms)
                               filter (where hit and not failed), '{0,0}'),
                      coalesce(percentile_disc(array[0.5, 0.99]) within group (order by ms) filter (where failed), '{0,0}')
               from took";
    let took = client.query_one(sql, &[&failing, &(began_us + i64::try_from(warm.as_micros())?)]).await?;
    let pair = |at: usize| -> [f64; 2] {
        let both: Vec<f64> = took.get(at);
        std::array::from_fn(|n| both.get(n).copied().unwrap_or_default())
    };
    Ok(Order {
        applied: row.get(0),
        distinct: row.get(1),
        keys: (row.get(2), row.get(3)),
        late: row.get(4),
        seconds: ended - began,
        quiet_ms: pair(0),
        behind_ms: pair(1),
        failed_ms: pair(2),
    })
}
