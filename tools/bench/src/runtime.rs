//! The runtime, with a handler that ignores everything, with one that does what [`by_hand`](crate::by_hand) does, and with
//! that one when some of it fails.

use std::{
    collections::HashMap,
    sync::OnceLock,
    time::{Duration, Instant},
};

use actors::{
    Attempt, Change, Decision, Decoded, Deps, Emit, Event as Decodable, Failure, Group, GroupSettings,
    Handler, Headers, Hints, LoadResult, Loaded, Lock, Publisher, Record, Rejection, SaveResult, Simple,
};
use anyhow::{Context, Result, ensure};
use deadpool_postgres::{GenericClient, Pool};
use uuid::Uuid;

use crate::{
    Way,
    event::{Event, Fails, from_json},
    servers::{PARTITIONS, database, kafka_settings, variable},
    simple::OneByOne,
    usage::Taken,
};

const LIMIT: Duration = Duration::from_secs(180);
/// Events that are to be forgotten while it is measured what that costs: more than can be.
const OLD: u32 = 1_000_000;

/// When the first record was decoded.
static FIRST: OnceLock<Instant> = OnceLock::new();

struct Totals {
    way: Way,
    out: String,
}

/// What a batch adds to a key's total.
#[derive(Clone, Copy)]
struct Total {
    events: i64,
    amount: i64,
}

impl Handler for Totals {
    type Body = Event;
    type Key = u32;
    type State = Total;
    type Shared = ();
    type Prepared = ();

    fn name(&self) -> &'static str {
        "bench::runtime::Totals"
    }

    fn decode(&self, record: &Record) -> Result<Decoded<Event>, Rejection> {
        let body = decode(record)?;
        if self.way == Way::Bare {
            std::hint::black_box(&body);
            return Ok(Decoded::Ignored);
        }
        Ok(Decoded::Event(event(body)))
    }

    fn key(&self, body: &Event) -> u32 {
        body.key
    }

    /// Nothing: a total is written as an increment, as in the hand-written code.
    async fn load<C: GenericClient>(&self, _: &C, _: &[u32], _: Lock) -> LoadResult<Self> {
        Ok(Loaded::new(HashMap::new(), ()))
    }

    fn decide(
        &self,
        attempt: &Attempt,
        body: &Event,
        state: Option<&Total>,
        (): &mut (),
        _: Option<&()>,
    ) -> Result<Decision<Total>, Failure> {
        match body.fails {
            Fails::ForEver => return Err(Failure::permanent("refused", "this one never works")),
            Fails::Once if attempt.failed_attempts == 0 => {
                return Err(Failure::transient("busy", "this one works the second time"));
            }
            _ => {}
        }
        let before = state.copied().unwrap_or(Total { events: 0, amount: 0 });
        let total = Total { events: before.events + 1, amount: before.amount + body.amount };
        let emit = emit(&self.out, body);
        Ok(Decision { state: Change::Save(total), emit: vec![emit], ..Decision::nothing() })
    }

    async fn save<C: GenericClient>(
        &self,
        client: &C,
        changed: Vec<(u32, Total)>,
        (): (),
    ) -> SaveResult<Self> {
        let statement = client
            .prepare_cached(
                "insert into totals (key, events, amount)
                 select * from unnest($1::integer[], $2::bigint[], $3::bigint[])
                 on conflict (key) do update set events = totals.events + excluded.events,
                                                 amount = totals.amount + excluded.amount",
            )
            .await?;
        let keys: Vec<i32> = changed.iter().map(|(key, _)| key.cast_signed()).collect();
        let events: Vec<i64> = changed.iter().map(|(_, total)| total.events).collect();
        let amounts: Vec<i64> = changed.iter().map(|(_, total)| total.amount).collect();
        client.execute(&statement, &[&keys, &events, &amounts]).await?;
        Ok(())
    }
}

/// Reads a record's body, and notes when the first was.
pub(crate) fn decode(record: &Record) -> Result<Event, Rejection> {
    FIRST.get_or_init(Instant::now);
    from_json(record)
}

/// The event that the runtime sees.
pub(crate) fn event(body: Event) -> Decodable<Event> {
    let (id, correlation_id) = (body.event_id, body.correlation_id.clone());
    Decodable { id, event_type: "TOTAL".into(), correlation_id, body }
}

/// What each event leads to.
pub(crate) fn emit(topic: &str, body: &Event) -> Emit {
    let value = serde_json::to_vec(body).expect("an event always serialises");
    Emit { topic: topic.to_owned(), key: None, value: Some(value), headers: Headers::new() }
}

pub(crate) async fn run(way: Way, topic: &str, records: usize) -> Result<Taken> {
    let pool = database().await?;
    let kafka = kafka_settings()?;
    let group = format!("bench-{}", Uuid::new_v4().simple());
    let out = format!("{group}-out");
    let mut topics = actors::group_topics(&group, PARTITIONS);
    topics.push(actors::TopicSpec::new(out.as_str(), PARTITIONS));
    actors::ensure_topics(&kafka, &topics, true).await.map_err(|cause| anyhow::anyhow!("{cause}"))?;
    let deps = Deps {
        pool: pool.clone(),
        housekeeping: pool.clone(),
        hints: Hints::connect(&variable("REDIS_URL")?)?,
        publisher: Publisher::start(&kafka)?,
    };
    let mut settings = GroupSettings::new("bench", &group, &[topic], kafka);
    if way == Way::Swept {
        remember(&pool, &group, OLD).await?;
        settings.retention.every = Duration::from_millis(100);
    }
    let member = match way {
        Way::Simple => Group::start(settings, Simple(OneByOne { out }), deps).await?,
        _ => Group::start(settings, Totals { way, out }, deps).await?,
    };
    let started = Instant::now();
    while !finished(&member, topic, records) {
        ensure!(started.elapsed() < LIMIT, "not done within {LIMIT:?}: {:?}", member.partitions());
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let time = FIRST.get().context("no record was decoded")?.elapsed();
    let swept = if way == Way::Swept { OLD - remembered(&pool, &group).await? } else { 0 };
    check(way, &pool, topic, records).await?;
    ensure!(member.shutdown(Duration::from_secs(10)).await, "the group did not drain in time");
    Ok(Taken { records, time, swept })
}

/// Fills the inbox with events that ended before its retention.
async fn remember(pool: &Pool, group: &str, events: u32) -> Result<()> {
    let client = pool.get().await?;
    let sql = "insert into inbox select $1, gen_random_uuid(), false, 1, n, now() - interval '4 days' + n * interval '1 ms'
               from generate_series(1, $2::bigint) as n";
    client.execute(sql, &[&group, &i64::from(events)]).await?;
    // Each by itself: a vacuum is no part of a transaction.
    client.batch_execute("vacuum analyze inbox").await?;
    client.batch_execute("checkpoint").await?;
    Ok(())
}

/// How many of them are left.
async fn remembered(pool: &Pool, group: &str) -> Result<u32> {
    let sql = "select count(*) from inbox where consumer = $1 and processed_at < now() - interval '3 days'";
    let left: i64 = pool.get().await?.query_one(sql, &[&group]).await?.get(0);
    Ok(u32::try_from(left)?)
}

/// Every offset is past, and nothing waits any more.
fn finished(member: &Group, topic: &str, records: usize) -> bool {
    let lanes = member.partitions();
    let lanes = || lanes.iter().filter(|lane| lane.topic == topic);
    let past: i64 = lanes().map(|lane| lane.next_offset).sum();
    usize::try_from(past) == Ok(records) && lanes().all(|lane| lane.parked == 0)
}

/// A fast wrong answer is no answer.
async fn check(way: Way, pool: &Pool, topic: &str, records: usize) -> Result<()> {
    let client = pool.get().await?;
    let sums = "select sum(applied)::bigint, sum(duplicate)::bigint, sum(dead)::bigint, sum(ignored)::bigint,
                       (select coalesce(sum(events), 0)::bigint from totals)
                from partition_lease where topic = $1";
    let row = client.query_one(sums, &[&topic]).await?;
    let [applied, duplicate, dead, ignored, totals]: [i64; 5] = std::array::from_fn(|at| row.get(at));
    let all = i64::try_from(records)?;
    let counts: HashMap<&str, i64> =
        [("applied", applied), ("duplicate", duplicate), ("dead", dead), ("ignored", ignored)].into();
    let right = match way {
        Way::Bare => ignored == all,
        Way::Protocol | Way::Simple | Way::Swept => applied == all,
        _ => applied + duplicate + dead == all && duplicate > 0 && dead > 0,
    };
    ensure!(right && totals == applied, "{records} records, {totals} in the totals, and {counts:?}");
    Ok(())
}
