//! A whole service: adds up the numbers that come in on a topic, by key, and says each new sum on another topic.
//!
//! ```text
//! ./dev up --detach && eval "$(./dev env)"
//! DATABASE_URL=$ORDERS_DATABASE_URL cargo run -p actors --example counter
//! echo 3 | ./dev produce clicks alice            # in another terminal
//! ```
//!
//! Killed and started again wherever you like, no number is added twice and none is left out.

use std::{collections::HashMap, env, error::Error, future::Future, time::Duration};

use actors::{
    Attempt, Cause, Change, Decision, Decoded, Deps, Emit, Event, Failure, Group, GroupSettings, Handler,
    Headers, Hints, KafkaSettings, LoadResult, Loaded, Lock, Publisher, Record, Rejection, SaveResult,
    TopicSpec,
};
use deadpool_postgres::{GenericClient, Manager, Pool};
use tokio_postgres::NoTls;

/// Where everything is, and what it is called.
#[derive(Debug)]
pub struct Config {
    pub kafka: KafkaSettings,
    pub redis: String,
    pub database: tokio_postgres::Config,
    /// The topic with the numbers; the sums go to `{topic}-counts`.
    pub topic: String,
    /// The consumer group.
    pub group: String,
}

struct Counter {
    counts: String,
}

/// Nobody can read it: it becomes a dead letter, with its bytes as they were.
fn poison(code: &'static str, error: &(dyn Error + 'static)) -> Rejection {
    Rejection::Poison(Cause::from_error(code, error))
}

impl Handler for Counter {
    /// Whose count, and by how much it grows.
    type Body = (String, i64);
    type Key = String;
    type State = i64;
    type Shared = ();
    type Prepared = ();

    fn name(&self) -> &'static str {
        "counter"
    }

    fn decode(&self, record: &Record) -> Result<Decoded<Self::Body>, Rejection> {
        let Some(key) = &record.key else { return Ok(Decoded::Ignored) };
        let key = std::str::from_utf8(key).map_err(|error| poison("key-not-utf-8", &error))?;
        // Never called without a value.
        let value = String::from_utf8_lossy(record.value.as_deref().unwrap_or_default());
        let number = value.trim().parse().map_err(|error| poison("not-a-number", &error))?;
        Ok(Decoded::Event(Event {
            // Whoever writes these records gives them no id: their place is one.
            id: record.place_id(),
            event_type: "CLICK".into(),
            correlation_id: record.headers.text("correlation-id").unwrap_or_default().to_owned(),
            body: (key.to_owned(), number),
        }))
    }

    fn key(&self, (key, _): &Self::Body) -> String {
        key.clone()
    }

    async fn load<C: GenericClient>(&self, client: &C, keys: &[String], _: Lock) -> LoadResult<Self> {
        let sql = "SELECT key, count FROM clicks WHERE key = ANY ($1) ORDER BY key FOR UPDATE";
        let rows = client.query(&client.prepare_cached(sql).await?, &[&keys]).await?;
        let counts: HashMap<String, i64> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
        Ok(Loaded::new(counts, ()))
    }

    fn decide(
        &self,
        _: &Attempt,
        (key, number): &Self::Body,
        count: Option<&i64>,
        (): &mut (),
        _: Option<&()>,
    ) -> Result<Decision<i64>, Failure> {
        let count = count.unwrap_or(&0).checked_add(*number);
        let count = count.ok_or_else(|| Failure::permanent("overflow", "the sum is beyond 64 bits"))?;
        let emit = Emit {
            topic: self.counts.clone(),
            key: Some(key.clone().into_bytes()),
            value: Some(count.to_string().into_bytes()),
            headers: Headers::new(),
        };
        Ok(Decision { state: Change::Save(count), emit: vec![emit], ..Decision::nothing() })
    }

    async fn save<C: GenericClient>(
        &self,
        client: &C,
        changed: Vec<(String, i64)>,
        (): (),
    ) -> SaveResult<Self> {
        let sql = "INSERT INTO clicks (key, count) SELECT * FROM unnest($1::text[], $2::bigint[])
                   ON CONFLICT (key) DO UPDATE SET count = excluded.count";
        let (keys, counts): (Vec<String>, Vec<i64>) = changed.into_iter().unzip();
        client.execute(&client.prepare_cached(sql).await?, &[&keys, &counts]).await?;
        Ok(())
    }
}

/// Counts until `shutdown` ends; true if it left in order.
///
/// # Errors
/// When Kafka or PostgreSQL is not as it has to be.
pub async fn run(config: Config, shutdown: impl Future<Output = ()>) -> Result<bool, Box<dyn Error>> {
    let Config { kafka, redis, database, topic, group } = config;
    let pool = Pool::builder(Manager::new(database, NoTls)).max_size(8).build()?;
    let mut client = pool.get().await?;
    actors::migrations().run_async(&mut **client).await?;
    let table = "CREATE TABLE IF NOT EXISTS clicks (key text PRIMARY KEY, count bigint NOT NULL)";
    client.batch_execute(table).await?;
    drop(client);

    let counts = format!("{topic}-counts");
    let mut topics = actors::group_topics(&group, 6);
    topics.extend([TopicSpec::new(&topic, 6), TopicSpec::new(&counts, 6)]);
    actors::ensure_topics(&kafka, &topics, true).await?;

    let mut settings = GroupSettings::new("counter", &group, &[&topic], kafka.clone());
    settings.build = env!("CARGO_PKG_VERSION").to_owned();
    let publisher = Publisher::start(&kafka)?;
    let deps = Deps { pool: pool.clone(), housekeeping: pool, hints: Hints::connect(&redis)?, publisher };
    let member = Group::start(settings, Counter { counts }, deps).await?;
    tokio::select! {
        () = shutdown => {}
        // What ended never should: better a new process than one that looks well.
        what = member.ended() => return Err(what.into()),
    }
    Ok(member.shutdown(Duration::from_secs(10)).await)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    tracing_subscriber::fmt().init();
    let variable =
        |name: &str| env::var(name).map_err(|_| format!("{name} is not set: eval \"$(./dev env)\""));
    let config = Config {
        kafka: KafkaSettings { brokers: variable("KAFKA_BROKERS")?, properties: Vec::new() },
        redis: variable("REDIS_URL")?,
        database: variable("DATABASE_URL")?.parse()?,
        topic: "clicks".into(),
        group: "counter".into(),
    };
    run(config, async { tokio::signal::ctrl_c().await.unwrap_or_default() }).await.map(drop)
}
