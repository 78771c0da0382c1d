//! The runtime's way.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use actors::{
    Attempt, Change, Decision, Decoded, Deps, Event as Decodable, Failure, Group, GroupSettings, Handler,
    Hints, LaneState, LoadResult, Loaded, Lock, Publisher, Record, Rejection, RetryPolicy, SaveResult,
};
use anyhow::{Result, ensure};
use deadpool_postgres::{GenericClient, Pool};

use super::{DELAYS, kafka::Topics, load::Event, store};
use crate::{
    event::from_json,
    servers::{PARTITIONS, kafka_settings},
};

/// Longest wait for partitions.
const ASSIGNED: Duration = Duration::from_secs(30);

struct Effects;

impl Handler for Effects {
    type Body = Event;
    type Key = i32;
    /// What a batch adds to the key, in order.
    type State = Vec<Event>;
    type Shared = ();
    type Prepared = ();

    fn name(&self) -> &'static str {
        "bench::retries::Effects"
    }

    fn decode(&self, record: &Record) -> Result<Decoded<Event>, Rejection> {
        let body: Event = from_json(record)?;
        let (event_type, correlation_id) = ("EFFECT".into(), String::new());
        Ok(Decoded::Event(Decodable { id: body.id, event_type, correlation_id, body }))
    }

    fn key(&self, body: &Event) -> i32 {
        body.key.cast_signed()
    }

    async fn load<C: GenericClient>(&self, client: &C, keys: &[i32], lock: Lock) -> LoadResult<Self> {
        if lock == Lock::ForUpdate {
            store::lock(client, keys).await?;
        }
        Ok(Loaded::new(HashMap::new(), ()))
    }

    fn decide(
        &self,
        attempt: &Attempt,
        body: &Event,
        state: Option<&Vec<Event>>,
        (): &mut (),
        _: Option<&()>,
    ) -> Result<Decision<Vec<Event>>, Failure> {
        if attempt.failed_attempts < body.fails {
            return Err(Failure::transient("busy", "this one works later"));
        }
        let mut events = state.cloned().unwrap_or_default();
        events.push(*body);
        Ok(Decision { state: Change::Save(events), emit: Vec::new(), ..Decision::nothing() })
    }

    async fn save<C: GenericClient>(
        &self,
        client: &C,
        changed: Vec<(i32, Vec<Event>)>,
        (): (),
    ) -> SaveResult<Self> {
        let events: Vec<Event> = changed.into_iter().flat_map(|(_, events)| events).collect();
        Ok(store::apply(client, &events).await?)
    }
}

/// A member that has its partitions and the same delays as the other ways.
pub(crate) async fn start(topics: &Topics, pool: &Pool) -> Result<Group> {
    let kafka = kafka_settings()?;
    let publisher = Publisher::start(&kafka)?;
    let deps = Deps { pool: pool.clone(), housekeeping: pool.clone(), hints: Hints::none(), publisher };
    let mut settings = GroupSettings::new("bench", &topics.group, &[&topics.source], kafka);
    settings.retry = RetryPolicy {
        initial: DELAYS[0],
        multiplier: 2.0,
        max: DELAYS[2],
        jitter: 0.0,
        attempts: Some(1 + u32::try_from(DELAYS.len())?),
        ..RetryPolicy::default()
    };
    let member = Group::start(settings, Effects, deps).await?;
    let started = Instant::now();
    loop {
        let lanes = member.partitions();
        let running =
            lanes.iter().filter(|lane| lane.topic == topics.source && lane.state == LaneState::Running);
        if i32::try_from(running.count())? == PARTITIONS {
            return Ok(member);
        }
        ensure!(started.elapsed() < ASSIGNED, "no partitions within {ASSIGNED:?}: {:?}", member.not_ready());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
