//! `./dev bench retry-topics`: what it costs to try a record again, three ways over the same events.
//!
//! Retrying in place, with retry topics, and parked by the runtime. Each way applies the events to a table that notes in which
//! order they came; the table is asked afterwards whose order was kept.

mod by_hand;
mod handler;
mod kafka;
mod load;
mod report;
mod store;

use std::time::{Duration, Instant};

use actors::Group;
use anyhow::{Result, ensure};
use clap::Args;
use deadpool_postgres::Pool;

use self::{
    by_hand::ByHand,
    kafka::Topics,
    load::Load,
    store::{Order, now_us},
};

/// Waits before the second, third and fourth attempt, in every way; after the fourth an event is dead.
const DELAYS: [Duration; 3] =
    [Duration::from_millis(200), Duration::from_millis(400), Duration::from_millis(800)];
/// At first clients look for their brokers: that is no part of a latency.
const WARM: Duration = Duration::from_secs(2);
/// No way may stand still for longer.
const STANDSTILL: Duration = Duration::from_secs(60);

/// What is asked for on the command line.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct Retries {
    /// Events of each way
    #[arg(long, default_value_t = 60_000, value_parser = clap::value_parser!(u32).range(1_000..=5_000_000))]
    events: u32,
    /// Keys they belong to
    #[arg(long, default_value_t = 3_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    keys: u32,
    /// Events a second; 0: as fast as they can be written
    #[arg(long, default_value_t = 2_000)]
    rate: u32,
    /// Events of a thousand that fail at first
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(0..=1_000))]
    failing: u32,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// A way to try again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// In place: the partition waits.
    Blocking,
    /// In a topic for each delay: nobody waits.
    RetryTopics,
    /// Parked: the key waits.
    Runtime,
}

impl Way {
    /// In the order in which they are run and shown.
    const ALL: [Self; 3] = [Self::Blocking, Self::RetryTopics, Self::Runtime];

    fn name(self) -> &'static str {
        match self {
            Self::Blocking => "blocking",
            Self::RetryTopics => "retry_topics",
            Self::Runtime => "runtime",
        }
    }
}

/// What a way took, and what became of the order.
#[derive(Debug)]
struct Measured {
    order: Order,
    /// Records written to Kafka beside the events themselves.
    written: i64,
    /// Records that waited in PostgreSQL.
    parked: i64,
    /// Records that are dead letters.
    dead: i64,
}

/// Runs all ways, one after the other, and prints what they took.
pub(crate) async fn run(retries: Retries) -> Result<()> {
    let load = Load::new(retries.events, retries.keys, retries.rate, retries.failing);
    let mut measured = Vec::new();
    for way in Way::ALL {
        eprintln!("{}", way.name());
        measured.push((way, measure(way, &load).await?));
    }
    report::print(&load, &measured, retries.json);
    Ok(())
}

/// Whoever consumes.
enum Consumer {
    ByHand(ByHand),
    Runtime(Group),
}

async fn measure(way: Way, load: &Load) -> Result<Measured> {
    let pool = store::database(load.keys).await?;
    let topics = Topics::create(way).await?;
    let consumer = match way {
        Way::Runtime => Consumer::Runtime(handler::start(&topics, &pool).await?),
        _ => Consumer::ByHand(by_hand::start(way, &topics, &pool)?),
    };
    let began = now_us()?;
    load.produce(&topics.source).await?;
    let waited = until_done(&topics, &pool, load.events).await;
    match consumer {
        Consumer::ByHand(by_hand) => by_hand.stop().await?,
        Consumer::Runtime(member) => {
            ensure!(member.shutdown(Duration::from_secs(10)).await, "the group did not drain in time");
        }
    }
    let dead = waited?;
    let failing: Vec<i32> = load.failing_keys().into_iter().collect();
    // What is sent at once is over before anything is warm.
    let warm = if load.rate > 0 { WARM } else { Duration::ZERO };
    let order = store::order(&pool, began, warm, &failing).await?;
    let all = usize::try_from(order.distinct + dead)? == load.events;
    ensure!(all && order.applied == order.distinct, "{} events, {dead} dead and {order:?}", load.events);
    Ok(Measured { order, written: topics.written()?, parked: store::parked(&pool).await?, dead })
}

/// Waits until every event is applied or dead. How many are dead.
async fn until_done(topics: &Topics, pool: &Pool, events: usize) -> Result<i64> {
    let (mut last, mut since) = (0, Instant::now());
    loop {
        let dead = topics.dead()?;
        let ended = store::applied(pool).await? + dead;
        if usize::try_from(ended)? >= events {
            return Ok(dead);
        }
        if ended != last {
            (last, since) = (ended, Instant::now());
        }
        ensure!(since.elapsed() < STANDSTILL, "{ended} of {events} have ended, and no more do");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}
